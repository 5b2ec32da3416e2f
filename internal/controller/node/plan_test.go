package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/controller/loop"
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
			d := plan(node, nil, now.Add(-test.age), now)
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
				nil, now.Add(-test.age), now.Add(time.Second)); again.Lost || again.Retaint {
				t.Errorf("planned on its own result it writes again: %+v", again)
			}
		})
	}
}

// A Lease says how long its node lives after it was heard.
func TestLeaseSaysHowLong(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	node := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{LeaseDurationSeconds: ptr.To[int32](4)}}
	if d := plan(node, lease, now.Add(-3*time.Second), now); d.Lost || !d.WakeAt.Equal(now.Add(time.Second)) {
		t.Errorf("after three seconds: %+v", d)
	}
	if d := plan(node, lease, now.Add(-4*time.Second), now); !d.Lost || !d.Silent {
		t.Errorf("after four seconds: %+v", d)
	}
}

// What counts is when a renewal is heard here: a server that was down for long
// finds old Leases, and listens before it judges; a node's clock may be wrong, and so
// may the one that wrote when the Node was made.
func TestHeard(t *testing.T) {
	began := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, made := range []time.Duration{-time.Hour, time.Second, 24 * time.Hour} {
		r := &reconciler{vigil: loop.NewVigil(began), renewals: map[string]renewal{}}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: metav1.NewTime(began.Add(made))}}
		first := max(min(made, time.Second), 0)
		awake := time.Duration(0)
		for _, step := range []struct {
			now, said, want time.Duration
		}{
			{time.Second, -time.Hour, first}, // it may have been renewed any time
			{9 * time.Second, -time.Hour, first},
			{10 * time.Second, -time.Hour + 10*time.Second, 10 * time.Second},
			{15 * time.Second, -time.Hour + 10*time.Second, 10 * time.Second},
			{20 * time.Second, time.Hour, 20 * time.Second},
		} {
			for ; awake < step.now; awake += time.Second {
				r.vigil.Since(began.Add(awake))
			}
			said := metav1.NewMicroTime(began.Add(step.said))
			heard := r.heard(node, &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &said}}, began.Add(step.now))
			if got := heard.Sub(began); got != step.want {
				t.Errorf("made after %v, after %v: heard after %v, want %v", made, step.now, got, step.want)
			}
		}
		// Nothing is heard by who is stopped, with the machine or alone.
		heard := r.heard(node, nil, began.Add(time.Hour))
		if got := heard.Sub(began); got != time.Hour {
			t.Errorf("this process was stopped for an hour and says that the node was last heard %v before", time.Hour-got)
		}
	}
}

// A node whose agent is silent is Unknown in all that the agent reports, and in
// nothing that others do.
func TestUnknown(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	others := corev1.NodeCondition{Type: "KernelDeadlock", Status: corev1.ConditionFalse, Reason: "KernelHasNoDeadlock"}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(now.Add(-time.Minute))}
	conditions := unknown([]corev1.NodeCondition{others, ready, {Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue}}, now)
	var got []string
	for _, c := range conditions {
		got = append(got, fmt.Sprint(c.Type, " ", c.Status, " ", c.Reason))
	}
	want := []string{
		"KernelDeadlock False KernelHasNoDeadlock", "Ready Unknown NodeStatusUnknown", "DiskPressure Unknown NodeStatusUnknown",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if !conditions[1].LastHeartbeatTime.Equal(&ready.LastHeartbeatTime) {
		t.Errorf("the last heartbeat is said to be %v", conditions[1].LastHeartbeatTime)
	}
	if c := unknown(nil, now); len(c) != 1 || c[0].Type != corev1.NodeReady || c[0].Reason != "NodeStatusNeverUpdated" {
		t.Errorf("of a node that never said anything: %+v", c)
	}
}

// The pods of a node that is silent are not ready, and that is written once.
func TestUnready(t *testing.T) {
	pod := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue},
	}}}
	pod.Status.Conditions = unready(pod, time.Now())
	if c := pod.Status.Conditions; len(c) != 2 || c[1].Status != corev1.ConditionFalse || c[1].Reason != "NodeNotReady" || c[0].Status != corev1.ConditionTrue {
		t.Errorf("conditions %+v", c)
	}
	if c := unready(pod, time.Now()); c != nil {
		t.Errorf("written again: %+v", c)
	}
}

func TestTaintsOfOthersCountFromNow(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	node := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "maintenance", Effect: corev1.TaintEffectNoExecute}}}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	d := plan(node, nil, now, now)
	if !d.Retaint || len(d.Taints) != 1 || !d.Taints[0].TimeAdded.Time.Equal(now) {
		t.Fatalf("%+v, want the time of now on the taint", d)
	}
	node.Spec.Taints = d.Taints
	if again := plan(node, nil, now, now.Add(time.Second)); again.Retaint || !again.Taints[0].TimeAdded.Time.Equal(now) {
		t.Errorf("written again: %+v", again)
	}
}

// A node that is short of something takes no more pods that do not tolerate it.
func TestPressureTaints(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	node := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodePIDPressure, Effect: corev1.TaintEffectNoSchedule}}}}
	node.Status.Conditions = []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse},
	}
	d := plan(node, nil, now, now)
	var taints []string
	for _, taint := range d.Taints {
		taints = append(taints, taint.ToString())
	}
	const want = "[node.kubernetes.io/memory-pressure:NoSchedule node.kubernetes.io/disk-pressure:NoSchedule]"
	if got := fmt.Sprint(taints); got != want || !d.Retaint {
		t.Errorf("%s, want %s", got, want)
	}
	node.Spec.Taints = d.Taints
	if again := plan(node, nil, now, now.Add(time.Second)); again.Retaint {
		t.Errorf("planned on its own result it writes again: %v", again.Taints)
	}
}
