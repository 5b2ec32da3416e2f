package tainteviction

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestPlan(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *metav1.Time { return ptr.To(metav1.NewTime(now.Add(-d))) }
	unreachable := func(d time.Duration) corev1.Taint {
		return corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: ago(d)}
	}
	maintenance := corev1.Taint{Key: "maintenance", Value: "yes", Effect: corev1.TaintEffectNoExecute, TimeAdded: ago(0)}
	seconds := func(key string, n int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &n}
	}
	forever := corev1.Toleration{Operator: corev1.TolerationOpExists}
	for _, test := range []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		created     time.Duration
		dark        bool
		phase       corev1.PodPhase
		want        string
	}{
		{"no taint", nil, nil, time.Hour, false, "", "stays"},
		{"another effect", []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}, nil, time.Hour, false, "", "stays"},
		{"not tolerated", []corev1.Taint{maintenance}, nil, time.Hour, false, "", "goes"},
		{"tolerated for good", []corev1.Taint{maintenance, unreachable(time.Hour)}, []corev1.Toleration{forever}, time.Hour, false, "", "stays"},
		{"tolerated for a while", []corev1.Taint{unreachable(time.Minute)}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, 300)}, time.Hour, false, "", "stays, looked at in 4m0s"},
		{"for long enough", []corev1.Taint{unreachable(5 * time.Minute)}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, 300)}, time.Hour, false, "", "goes, its node is lost"},
		{"a pod that came later has its time", []corev1.Taint{unreachable(time.Hour)}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, 300)}, time.Minute, false, "", "stays, looked at in 4m0s"},
		{"not at all", []corev1.Taint{unreachable(0)}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, -1)}, time.Hour, false, "", "goes, its node is lost"},
		{"the shortest counts", []corev1.Taint{unreachable(0), maintenance}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, 300), seconds("maintenance", 60)}, time.Hour, false, "", "stays, looked at in 1m0s"},
		{"no node is ready", []corev1.Taint{unreachable(time.Hour)}, nil, time.Hour, true, "", "stays"},
		{"somebody empties the node though none is ready", []corev1.Taint{maintenance}, nil, time.Hour, true, "", "goes"},
		{"it has finished", []corev1.Taint{maintenance}, nil, time.Hour, false, corev1.PodFailed, "stays"},
	} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: test.taints}}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", CreationTimestamp: *ago(test.created)}, Spec: corev1.PodSpec{Tolerations: test.tolerations}}
		pod.Status.Phase = test.phase
		evictions, wakeAt := plan(node, []*corev1.Pod{pod}, test.dark, now)
		got := "stays"
		if len(evictions) > 0 {
			if got = "goes"; evictions[0].Lost {
				got += ", its node is lost"
			}
		}
		if !wakeAt.IsZero() {
			got += fmt.Sprintf(", looked at in %v", wakeAt.Sub(now))
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		pod.DeletionTimestamp = ago(0)
		if evictions, _ := plan(node, []*corev1.Pod{pod}, test.dark, now); len(evictions) > 0 {
			t.Errorf("%s: evicted although it is being deleted", test.name)
		}
	}
}
