package disruption

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func TestPlan(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	number, share := func(n int) *intstr.IntOrString { return ptr.To(intstr.FromInt(n)) }, func(s string) *intstr.IntOrString { return ptr.To(intstr.FromString(s)) }
	four := &counted{Name: "web", Pods: 4}
	for _, test := range []struct {
		name      string
		min, max  *intstr.IntOrString
		ready     int // of four pods
		deleting  int // of the ready ones
		granted   map[string]time.Duration
		owner     *counted
		want      string
		condition string
	}{
		{"a number", number(3), nil, 4, 0, nil, nil, "4 of 4 healthy, 3 needed, 1 may go", "SufficientPods"},
		{"just as many", number(4), nil, 4, 0, nil, nil, "4 of 4 healthy, 4 needed, 0 may go", "InsufficientPods"},
		{"more than there are", number(9), nil, 4, 0, nil, nil, "4 of 4 healthy, 9 needed, 0 may go", "InsufficientPods"},
		{"one is not ready", number(3), nil, 3, 0, nil, nil, "3 of 4 healthy, 3 needed, 0 may go", "InsufficientPods"},
		{"one is being deleted", number(2), nil, 4, 1, nil, nil, "3 of 4 healthy, 2 needed, 1 may go", "SufficientPods"},
		{"a share, rounded up", share("60%"), nil, 4, 0, nil, four, "4 of 4 healthy, 3 needed, 1 may go", "SufficientPods"},
		{"unavailable", nil, number(1), 4, 0, nil, four, "4 of 4 healthy, 3 needed, 1 may go", "SufficientPods"},
		{"none unavailable", nil, number(0), 4, 0, nil, four, "4 of 4 healthy, 4 needed, 0 may go", "InsufficientPods"},
		{"a share unavailable, rounded up", nil, share("30%"), 4, 0, nil, four, "4 of 4 healthy, 2 needed, 2 may go", "SufficientPods"},
		{"all unavailable", nil, share("100%"), 1, 0, nil, four, "1 of 4 healthy, 0 needed, 1 may go", "SufficientPods"},
		{"the controller wants more", nil, number(1), 4, 0, nil, &counted{Name: "web", Pods: 6}, "4 of 6 healthy, 5 needed, 0 may go", "InsufficientPods"},
		{"no controller", nil, number(1), 4, 0, nil, nil, "0 of 0 healthy, 0 needed, 0 may go", "SyncFailed"},
		{"a controller that does not say", nil, number(1), 4, 0, nil, &counted{Err: errUnknownController}, "0 of 0 healthy, 0 needed, 0 may go", "SyncFailed"},
		{"an eviction was granted", number(2), nil, 4, 0, map[string]time.Duration{"p0": time.Second}, nil, "3 of 4 healthy, 2 needed, 1 may go, waiting for 1 until 1m59s", "SufficientPods"},
		{"an eviction came to nothing", number(2), nil, 4, 0, map[string]time.Duration{"p0": patience}, nil, "4 of 4 healthy, 2 needed, 2 may go", "SufficientPods"},
		{"an evicted pod is being deleted", number(2), nil, 4, 1, map[string]time.Duration{"p0": time.Second}, nil, "3 of 4 healthy, 2 needed, 1 may go", "SufficientPods"},
		{"an evicted pod is gone", number(2), nil, 4, 0, map[string]time.Duration{"old": time.Second}, nil, "4 of 4 healthy, 2 needed, 2 may go", "SufficientPods"},
	} {
		budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: test.min, MaxUnavailable: test.max}}
		for name, ago := range test.granted {
			if budget.Status.DisruptedPods == nil {
				budget.Status.DisruptedPods = map[string]metav1.Time{}
			}
			budget.Status.DisruptedPods[name] = metav1.NewTime(now.Add(-ago))
		}
		var pods []*corev1.Pod
		controllers := make([]*counted, 4)
		for i := range 4 {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i)}}
			if i < test.ready {
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			}
			if i < test.deleting {
				pod.DeletionTimestamp = ptr.To(metav1.NewTime(now))
			}
			pods, controllers[i] = append(pods, pod), test.owner
		}
		status, wakeAt := plan(budget, pods, controllers, now)
		got := fmt.Sprintf("%d of %d healthy, %d needed, %d may go", status.CurrentHealthy, status.ExpectedPods, status.DesiredHealthy, status.DisruptionsAllowed)
		if !wakeAt.IsZero() {
			got += fmt.Sprintf(", waiting for %d until %v", len(status.DisruptedPods), wakeAt.Sub(now))
		}
		if got != test.want || status.Conditions[0].Reason != test.condition || status.ObservedGeneration != 3 {
			t.Errorf("%s: %s (%s), want %s (%s)", test.name, got, status.Conditions[0].Reason, test.want, test.condition)
		}
	}
}
