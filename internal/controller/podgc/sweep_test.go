package podgc

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func pod(name, node string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid"},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Phase: phase},
	}
}

// TestSweep: a pod of a node that is gone goes after the quarantine, not before.
func TestSweep(t *testing.T) {
	c := fake.NewClientBuilder().WithStatusSubresource(&corev1.Pod{}).WithObjects(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "there"}},
		pod("stays", "there", corev1.PodRunning), pod("lost", "gone", corev1.PodRunning), pod("pending", "", corev1.PodPending),
	).Build()
	s := &sweeper{cache: c, live: c, missing: map[string]time.Time{}}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	left := func(at time.Time) string {
		t.Helper()
		if err := s.sweep(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		var list corev1.PodList
		if err := c.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range list.Items {
			names = append(names, p.Name)
		}
		slices.Sort(names)
		return fmt.Sprint(names)
	}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{
		{0, "[lost pending stays]"},
		{quarantine - time.Second, "[lost pending stays]"},
		{quarantine, "[pending stays]"},
	} {
		if got := left(now.Add(step.after)); got != step.want {
			t.Errorf("after %v: %s, want %s", step.after, got, step.want)
		}
	}
}

// afterRemoval removes a pod whose node is gone and returns the pod of its name that is
// there then.
func afterRemoval(t *testing.T, c client.Client, pod *corev1.Pod) (got corev1.Pod) {
	t.Helper()
	s := &sweeper{cache: c, live: c}
	if err := s.remove(t.Context(), removal{Pod: pod, Fail: true, Why: "its node is gone"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(pod), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestAnotherOfTheName: a pod that was made under the name of the one that is to go
// stays as it is.
func TestAnotherOfTheName(t *testing.T) {
	former := pod("web-0", "gone", corev1.PodRunning)
	former.UID, former.ResourceVersion = "former", "1"
	c := fake.NewClientBuilder().WithStatusSubresource(&corev1.Pod{}).WithObjects(pod("web-0", "there", corev1.PodRunning)).Build()
	got := afterRemoval(t, c, former)
	if got.Status.Phase != corev1.PodRunning || got.Status.Reason != "" || len(got.Status.Conditions) > 0 {
		t.Errorf("it is said to have failed: %+v", got.Status)
	}
}

func TestTooManyFinished(t *testing.T) {
	var pods []*corev1.Pod
	for i := range finishedLimit + 2 {
		p := pod(fmt.Sprintf("p%05d", i), "there", corev1.PodSucceeded)
		p.CreationTimestamp = metav1.Unix(int64(i), 0)
		pods = append(pods, p)
	}
	slices.Reverse(pods)
	var names []string
	for _, r := range plan(pods, nil, nil, time.Now()) {
		names = append(names, r.Pod.Name)
	}
	if got := fmt.Sprint(names); got != "[p00000 p00001]" {
		t.Errorf("%s go, want the two oldest", got)
	}
}

// TestOutOfService: of a node of which somebody vouches that nothing runs there,
// pods that are being deleted go at once; of any other node they stay.
func TestOutOfService(t *testing.T) {
	node := func(ready corev1.ConditionStatus, taints ...string) *corev1.Node {
		n := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
		for _, key := range taints {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute})
		}
		return n
	}
	for _, test := range []struct {
		name     string
		node     *corev1.Node
		deleting bool
		goes     bool
	}{
		{"lost and out of service", node(corev1.ConditionUnknown, corev1.TaintNodeUnreachable, corev1.TaintNodeOutOfService), true, true},
		{"not being deleted", node(corev1.ConditionUnknown, corev1.TaintNodeOutOfService), false, false},
		{"lost only", node(corev1.ConditionUnknown, corev1.TaintNodeUnreachable), true, false},
		{"ready in spite of the taint", node(corev1.ConditionTrue, corev1.TaintNodeOutOfService), true, false},
	} {
		p := pod("p", "n", corev1.PodRunning)
		if test.deleting {
			now := metav1.Now()
			p.DeletionTimestamp = &now
		}
		removals := plan([]*corev1.Pod{p}, nil, map[string]bool{"n": outOfService(test.node)}, time.Now())
		if goes := len(removals) == 1 && removals[0].Fail; goes != test.goes {
			t.Errorf("%s: goes %t, want %t", test.name, goes, test.goes)
		}
	}
}

// TestSaysWhyOnce: a pod that was evicted before its node went has one reason.
func TestSaysWhyOnce(t *testing.T) {
	evicted := pod("p", "n", corev1.PodRunning)
	evicted.Finalizers = []string{"example.com/keep"} // so that it can be looked at
	evicted.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager"}}
	c := fake.NewClientBuilder().WithStatusSubresource(&corev1.Pod{}).WithObjects(evicted).Build()
	got := afterRemoval(t, c, evicted)
	if len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Reason != "DeletionByPodGC" {
		t.Errorf("conditions %+v", got.Status.Conditions)
	}
}
