package agent

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stageTimes are the sums that were measured, in milliseconds by stage; "total"
// is of whole starts. None is of zero length in these tests.
func stageTimes(t *testing.T, s *Stages) map[string]int {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := "total"
			for _, label := range m.Label {
				name = label.GetValue()
			}
			if sum := sumOf(m); sum > 0 {
				times[name] = sum
			}
		}
	}
	return times
}

func sumOf(m *dto.Metric) int { return int(m.GetHistogram().GetSampleSum()*1000 + 0.5) }

func TestFirstStart(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	status := func(ready corev1.ConditionStatus) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}
	}
	unready, ready := Decision{Status: status(corev1.ConditionFalse)}, Decision{Status: status(corev1.ConditionTrue)}
	ready.Memory.Moments.Started = &metav1.MicroTime{Time: at(50)}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}

	live := func(f *firstStart) (told int) {
		f.ends(Act{Kind: ActSetupNetwork}, 3*time.Millisecond)
		f.ends(Act{Kind: ActLook}, time.Millisecond)
		f.begins(Act{Kind: ActStart}, at(8))
		f.decided(&unready, at(9))
		f.ends(Act{Kind: ActStart}, 40*time.Millisecond)
		f.ends(Act{Kind: ActStart, Attempt: 1}, 20*time.Millisecond)
		f.decided(&ready, at(55))
		f.decided(&ready, at(56))
		for _, written := range []*Decision{&unready, &ready, &ready} {
			if f.written(&written.Status, at(60)) != nil {
				told++
			}
		}
		return told
	}

	stages := NewStages()
	f := followStart(stages, pod, begin)
	if told := live(&f); told != 1 {
		t.Errorf("told %d times", told)
	}
	want := map[string]int{StageNetwork: 3, StagePrepare: 8, StageContainer: 40, StageReady: 5, StageStatus: 5, "total": 60}
	got := stageTimes(t, stages)
	for stage, ms := range want {
		if got[stage] != ms {
			t.Errorf("%s took %d ms, want %d", stage, got[stage], ms)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}

	// What an agent finds has begun in an earlier one's time.
	known := pod.DeepCopy()
	known.Status.StartTime = &metav1.Time{Time: begin}
	stages = NewStages()
	if f := followStart(stages, known, begin); live(&f) != 0 || len(stageTimes(t, stages)) != 0 {
		t.Errorf("a pod that was known before: %v", stageTimes(t, stages))
	}

	// A pod that ends before it is ready has no start to tell of.
	stages = NewStages()
	f = followStart(stages, pod, begin)
	f.decided(&Decision{Status: status(corev1.ConditionFalse), Ending: true}, at(1))
	if live(&f) != 0 || len(stageTimes(t, stages)) != 0 {
		t.Errorf("a pod that ended: %v", stageTimes(t, stages))
	}
}
