package node

import (
	"fmt"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPlan(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	foreign := corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}
	unreachable := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	for _, test := range []struct {
		name   string
		ready  corev1.ConditionStatus
		age    time.Duration
		cordon bool
		taints []corev1.Taint
		want   string
	}{
		{"alive", "True", 10 * time.Second, false, []corev1.Taint{foreign}, "lost=false taints=[gpu:NoSchedule] wake=30s"},
		{"at the deadline", "True", gracePeriod, false, nil, "lost=true taints=[node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute] wake=0s"},
		{"known to be lost", "Unknown", time.Hour, false, nil, "lost=false taints=[node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute] wake=0s"},
		{"back again", "True", time.Second, false, []corev1.Taint{unreachable, foreign}, "lost=false taints=[gpu:NoSchedule] wake=39s"},
		{"not ready", "False", time.Second, false, nil, "lost=false taints=[node.kubernetes.io/not-ready:NoSchedule node.kubernetes.io/not-ready:NoExecute] wake=39s"},
		{"cordoned", "True", time.Second, true, nil, "lost=false taints=[node.kubernetes.io/unschedulable:NoSchedule] wake=39s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			node := &corev1.Node{
				Spec:   corev1.NodeSpec{Taints: test.taints, Unschedulable: test.cordon},
				Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: test.ready}}},
			}
			renewed := metav1.NewMicroTime(now.Add(-test.age))
			d := plan(node, &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &renewed}}, time.Time{}, now)
			var taints []string
			for _, taint := range d.Taints {
				taints = append(taints, taint.ToString())
			}
			var wake time.Duration
			if !d.WakeAt.IsZero() {
				wake = d.WakeAt.Sub(now)
			}
			if got := fmt.Sprintf("lost=%t taints=%v wake=%v", d.Lost, taints, wake); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if again := plan(&corev1.Node{Spec: corev1.NodeSpec{Taints: d.Taints, Unschedulable: test.cordon}, Status: corev1.NodeStatus{Conditions: d.Conditions}},
				&coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &renewed}}, time.Time{}, now.Add(time.Second)); again.Lost || again.Retaint {
				t.Errorf("planned on its own result it writes again: %+v", again)
			}
		})
	}
}

// A server that was down for long finds old Leases: it listens before it judges.
func TestListenBeforeJudging(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	renewed := metav1.NewMicroTime(now.Add(-time.Hour))
	lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &renewed}}
	node := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	if d := plan(node, lease, now.Add(-time.Second), now); d.Lost || !d.WakeAt.Equal(now.Add(gracePeriod-time.Second)) {
		t.Errorf("judged after a second: %+v", d)
	}
	if d := plan(node, lease, now.Add(-gracePeriod), now); !d.Lost {
		t.Error("never judged")
	}
}
