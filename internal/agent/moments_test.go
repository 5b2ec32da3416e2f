package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"windlass.dev/windlass/api/v1alpha1"
)

// FuzzMoments: whatever a pod's annotation holds can be read, and what has been
// read comes out of a write as it was.
func FuzzMoments(f *testing.F) {
	f.Add("")
	f.Add("{")
	f.Add(`{"ready":"2026-01-01T00:00:00.000001Z","note":"n","attempts":3}`)
	f.Add(`{"ready":null,"drained":"2026-01-01T00:00:00.000001+02:00","attempts":4294967296}`)
	pod := func(text string) *corev1.Pod {
		p := &corev1.Pod{Status: corev1.PodStatus{StartTime: stamp(stepEpoch)}}
		p.Annotations = map[string]string{v1alpha1.AnnotationMoments: text}
		return p
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := momentsOf(pod(text))
		again := momentsOf(pod((&report{moments: m}).annotation()))
		if !equality.Semantic.DeepEqual(m, again) {
			t.Errorf("%q: %+v, written and read %+v", text, m, again)
		}
	})
}
