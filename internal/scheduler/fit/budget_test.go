package fit

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPreemptWithinBudgets: pods that a budget would keep go only where nothing
// else helps, and as few of them as can be; what a budget has let go already, and
// pods of another namespace, do not count.
func TestPreemptWithinBudgets(t *testing.T) {
	budget := func(app string, allowed int32, disrupted ...string) *policyv1.PodDisruptionBudget {
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: "default"}}
		b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
		b.Status.DisruptionsAllowed = allowed
		for _, name := range disrupted {
			b.Status.DisruptedPods = map[string]metav1.Time{name: {}}
		}
		return b
	}
	elsewhere := budget("web", 0)
	elsewhere.Namespace = "other"
	web := labelled("web")
	for _, test := range []struct {
		name    string
		budgets []*policyv1.PodDisruptionBudget
		there   []*corev1.Pod
		want    string
	}{
		{"another node, though its pod is more important", []*policyv1.PodDisruptionBudget{budget("web", 0)}, []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(1), web, on("a")), makePod("r", requests("2", "0"), priority(5), on("b")),
		}, "b: r, 0 against"},
		{"another pod of the node, though it is more important", []*policyv1.PodDisruptionBudget{budget("web", 0)}, []*corev1.Pod{
			makePod("q", requests("1", "0"), priority(1), web, on("a")), makePod("q2", requests("1", "0"), priority(5), on("a")), makePod("r", requests("2", "0"), priority(20), on("b")),
		}, "a: q2, 0 against"},
		{"as the last resort", []*policyv1.PodDisruptionBudget{budget("web", 0)}, []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(1), web, on("a")), makePod("r", requests("2", "0"), priority(20), on("b")),
		}, "a: q, 1 against"},
		{"as many as the budget allows", []*policyv1.PodDisruptionBudget{budget("web", 1)}, []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(1), web, on("a")), makePod("r", requests("2", "0"), priority(5), on("b")),
		}, "a: q, 0 against"},
		{"one that goes already", []*policyv1.PodDisruptionBudget{budget("web", 0, "q")}, []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(1), web, on("a")), makePod("r", requests("2", "0"), priority(5), on("b")),
		}, "a: q, 0 against"},
		{"a budget of another namespace", []*policyv1.PodDisruptionBudget{elsewhere}, []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(1), web, on("a")), makePod("r", requests("2", "0"), priority(5), on("b")),
		}, "a: q, 0 against"},
		{"fewer against their budgets", []*policyv1.PodDisruptionBudget{budget("web", 0)}, []*corev1.Pod{
			makePod("q", requests("1", "0"), priority(1), web, on("a")), makePod("q2", requests("1", "0"), priority(1), web, on("a")),
			makePod("r", requests("1200m", "0"), priority(9), web, on("b")), makePod("r2", requests("800m", "0"), priority(9), on("b")),
		}, "b: r, 1 against"},
	} {
		c := NewCluster()
		c.SetNode(makeNode("a"))
		c.SetNode(makeNode("b"))
		for _, b := range test.budgets {
			c.SetBudget(b)
		}
		for _, p := range test.there {
			c.SetPod(NewPod(p))
		}
		need := "1"
		if test.name == "fewer against their budgets" {
			need = "1200m"
		}
		p := NewPod(makePod("p", requests(need, "0"), priority(10)))
		if d := c.Decide(p); d.Node != "" {
			t.Fatalf("%s: it fits on %s", test.name, d.Node)
		}
		room := c.Preempt(p)
		if room == nil {
			t.Errorf("%s: nobody goes, want %s", test.name, test.want)
			continue
		}
		got := room.Node + ":"
		for _, v := range room.Victims {
			got += " " + v.Object.Name
		}
		if got = fmt.Sprintf("%s, %d against", got, room.Against); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	c := NewCluster()
	c.SetBudget(budget("web", 0))
	c.RemoveBudget("default", "web")
	if len(c.budgets) != 0 {
		t.Error("a budget that is gone is remembered")
	}
}
