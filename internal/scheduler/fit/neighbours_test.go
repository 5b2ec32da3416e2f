package fit

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func labelled(app string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": app} }
}

func inZone(zone string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels["zone"] = zone }
}

func about(app, key string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}
}

func near(app, key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{about(app, key)}}}
	}
}

func apart(app, key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{about(app, key)}}}
	}
}

func likes(app, key string, weight int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: weight, PodAffinityTerm: about(app, key)}}}}
	}
}

func evenly(app, key string, skew int32, otherwise corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: skew, TopologyKey: key, WhenUnsatisfiable: otherwise,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}
	}
}

func inNamespace(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Namespace = name } }

func TestNeighbours(t *testing.T) {
	const host = "kubernetes.io/hostname"
	zones := []*corev1.Node{makeNode("a", inZone("one")), makeNode("b", inZone("one")), makeNode("c", inZone("two"))}
	for _, test := range []struct {
		name  string
		there []*corev1.Pod
		pod   *corev1.Pod
		want  string // the node, or a part of the message
	}{
		{"near another, in its zone", []*corev1.Pod{makePod("q", labelled("db"), on("c"))}, makePod("p", near("db", "zone")), "c"},
		{"nobody to be near to", nil, makePod("p", near("db", "zone")), "3 node(s) didn't match pod affinity rules"},
		{"the first of those that are near each other", nil, makePod("p", labelled("web"), near("web", "zone")), "a"},
		{"the second goes to the first", []*corev1.Pod{makePod("q", labelled("web"), on("c"))}, makePod("p", labelled("web"), near("web", "zone")), "c"},
		{"no label", []*corev1.Pod{makePod("q", labelled("db"), on("c"))}, makePod("p", near("db", "rack")), "3 node(s) didn't match pod affinity rules"},
		{"in another namespace", []*corev1.Pod{makePod("q", labelled("db"), on("c"), inNamespace("other"))}, makePod("p", near("db", "zone")), "didn't match pod affinity rules"},
		{"apart from another", []*corev1.Pod{makePod("q", labelled("web"), on("a"))}, makePod("p", apart("web", "zone")), "c"},
		{"apart from all", []*corev1.Pod{makePod("q", labelled("web"), on("a")), makePod("r", labelled("web"), on("c"))}, makePod("p", apart("web", "zone")), "3 node(s) didn't match pod anti-affinity rules"},
		{"another stays apart", []*corev1.Pod{makePod("q", apart("web", "zone"), on("a"))}, makePod("p", labelled("web")), "c"},
		{"others stay apart everywhere", []*corev1.Pod{makePod("q", apart("web", "zone"), on("a")), makePod("r", apart("web", "zone"), on("c"))}, makePod("p", labelled("web")), "3 node(s) didn't satisfy existing pods anti-affinity rules"},
		{"rather near", []*corev1.Pod{makePod("q", labelled("db"), on("c"))}, makePod("p", likes("db", host, 10)), "c"},
		{"liked by another", []*corev1.Pod{makePod("q", likes("web", host, 10), on("c"))}, makePod("p", labelled("web")), "c"},
		{"even over zones", []*corev1.Pod{makePod("q", labelled("web"), on("a"))}, makePod("p", labelled("web"), evenly("web", "zone", 1, corev1.DoNotSchedule)), "c"},
		{"even over zones, with more skew allowed", []*corev1.Pod{makePod("q", labelled("web"), on("c"))}, makePod("p", labelled("web"), evenly("web", "zone", 2, corev1.DoNotSchedule)), "a"},
		{"evenly impossible", []*corev1.Pod{makePod("q", labelled("web"), on("a")), makePod("full", requests("2", "0"), on("c"))}, makePod("p", labelled("web"), requests("1", "0"), evenly("web", "zone", 1, corev1.DoNotSchedule)),
			"1 Insufficient cpu, 2 node(s) didn't match pod topology spread constraints"},
		{"rather even", []*corev1.Pod{makePod("q", labelled("web"), on("a")), makePod("r", labelled("web"), on("b"))}, makePod("p", labelled("web"), evenly("web", "zone", 1, corev1.ScheduleAnyway)), "c"},
		{"one that goes does not count", []*corev1.Pod{makePod("q", labelled("web"), on("a"), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} })}, makePod("p", labelled("web"), requests("100m", "0"), evenly("web", "zone", 1, corev1.DoNotSchedule)), "b"},
		{"a label to count by is missing", nil, makePod("p", labelled("web"), evenly("web", "rack", 1, corev1.DoNotSchedule)), "3 node(s) didn't match pod topology spread constraints (missing required label)"},
	} {
		c := NewCluster()
		for _, n := range zones {
			c.SetNode(n)
		}
		for _, p := range test.there {
			c.SetPod(NewPod(p))
		}
		d := c.Decide(NewPod(test.pod))
		if d.Node != test.want && (d.Node != "" || !strings.Contains(d.Why, test.want)) {
			t.Errorf("%s: %s (%s), want %s", test.name, d.Node, d.Why, test.want)
		}
		for _, p := range test.there {
			c.RemovePod(p.UID)
		}
		for name, n := range c.nodes {
			if len(n.opinions) > 0 {
				t.Errorf("%s: node %s remembers the rules of pods that are gone", test.name, name)
			}
		}
	}
}

// A rule may be about the pods of namespaces with a label.
func TestNamespaceSelector(t *testing.T) {
	c := NewCluster()
	c.SetNode(makeNode("a"))
	c.SetNode(makeNode("b"))
	c.SetPod(NewPod(makePod("q", labelled("db"), on("b"), inNamespace("other"))))
	rule := about("db", "kubernetes.io/hostname")
	rule.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}}
	p := NewPod(makePod("p", func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{rule}}}
	}))
	if d := c.Decide(p); d.Node != "" {
		t.Errorf("went to %s although the namespace has no such label", d.Node)
	}
	if !c.SetNamespace("other", map[string]string{"team": "x"}) {
		t.Error("a label that is new is no change")
	}
	if d := c.Decide(p); d.Node != "b" {
		t.Errorf("went to %q: %s", d.Node, d.Why)
	}
}

func priority(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }

func TestPreempt(t *testing.T) {
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	for _, test := range []struct {
		name  string
		there []*corev1.Pod
		pod   *corev1.Pod
		want  string
	}{
		{"the least important", []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(5), on("a")), makePod("r", requests("2", "0"), priority(3), on("b")),
		}, makePod("p", requests("1", "0"), priority(10)), "b: r"},
		{"as few as can be", []*corev1.Pod{
			makePod("q", requests("1", "0"), priority(3), on("a")), makePod("q2", requests("1", "0"), priority(2), on("a")), makePod("r", requests("2", "0"), priority(20), on("b")),
		}, makePod("p", requests("1", "0"), priority(10)), "a: q2"},
		{"all are as important", []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(10), on("a")), makePod("r", requests("2", "0"), priority(10), on("b")),
		}, makePod("p", requests("1", "0"), priority(10)), "nobody"},
		{"it would not help", []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(1), on("a")), makePod("r", requests("2", "0"), priority(1), on("b")),
		}, makePod("p", requests("3", "0"), priority(10)), "nobody"},
		{"it must not", []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(1), on("a")), makePod("r", requests("2", "0"), priority(1), on("b")),
		}, makePod("p", requests("1", "0"), priority(10), func(p *corev1.Pod) { p.Spec.PreemptionPolicy = ptr.To(corev1.PreemptNever) }), "nobody"},
		{"somebody is going already", []*corev1.Pod{
			makePod("q", requests("2", "0"), priority(1), on("a"), going), makePod("r", requests("2", "0"), priority(20), on("b")),
		}, makePod("p", requests("1", "0"), priority(10)), "nobody"},
		{"one that must stay apart", []*corev1.Pod{
			makePod("q", labelled("web"), priority(1), on("a")), makePod("r", labelled("web"), priority(20), on("b")),
		}, makePod("p", priority(10), apart("web", "kubernetes.io/hostname")), "a: q"},
	} {
		c := NewCluster()
		c.SetNode(makeNode("a"))
		c.SetNode(makeNode("b"))
		for _, p := range test.there {
			c.SetPod(NewPod(p))
		}
		p := NewPod(test.pod)
		if d := c.Decide(p); d.Node != "" {
			t.Fatalf("%s: it fits on %s", test.name, d.Node)
		}
		got := "nobody"
		if room := c.Preempt(p); room != nil {
			got = room.Node + ":"
			for _, v := range room.Victims {
				got += " " + v.Object.Name
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// Room that pods make way for is not taken by others of no higher priority.
func TestPromise(t *testing.T) {
	c := NewCluster()
	c.SetNode(makeNode("a"))
	important, other, higher := NewPod(makePod("p", requests("2", "0"), priority(10))), NewPod(makePod("q", requests("1", "0"), priority(10))), NewPod(makePod("r", requests("1", "0"), priority(20)))
	c.Promise(important, "a")
	if d := c.Decide(other); d.Node != "" {
		t.Error("another took the room")
	}
	if d := c.Decide(higher); d.Node != "a" {
		t.Errorf("a more important pod has to wait: %s", d.Why)
	}
	if d := c.Decide(important); d.Node != "a" {
		t.Errorf("the pod itself has to wait: %s", d.Why)
	}
	c.Release(important.UID)
	if d := c.Decide(other); d.Node != "a" {
		t.Errorf("room that nobody needs is kept: %s", d.Why)
	}
}
