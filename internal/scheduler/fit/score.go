package fit

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// score says how good a node is for a pod; more is better, in the score's own unit.
type score func(*Pod, *node) float64

// weighted is a score and how much it counts once all nodes are scaled to 0…1.
type weighted struct {
	name   string
	weight float64
	score  score
}

// scores returns what nodes are compared by for a pod. Weights are those of
// Kubernetes' scheduler, but that pods of one owner are kept apart above all.
func scores(p *Pod, others *neighbourhood) []weighted {
	return []weighted{
		{"fewest pods of the same owner", 8, dispersed},
		{"fewest taints to avoid", 3, untainted},
		{"most even over its topology", 2, others.even},
		{"preferred affinity", 2, preferred(p)},
		{"preferred neighbours", 2, others.likes},
		{"least allocated", 1, leastAllocated},
	}
}

// dispersed prefers nodes with fewer pods of the pod's owner. Those that are being
// deleted do not count: their place is about to be free.
func dispersed(p *Pod, n *node) float64 {
	return -float64(n.owners[p.owner])
}

// untainted prefers nodes without PreferNoSchedule taints that the pod does not tolerate.
func untainted(p *Pod, n *node) float64 {
	count := 0
	for i := range n.object.Spec.Taints {
		if t := &n.object.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(p, t) {
			count++
		}
	}
	return -float64(count)
}

// preferred prefers nodes by the weights of the pod's preferred node affinity.
func preferred(p *Pod) score {
	a := p.Object.Spec.Affinity
	if a == nil || a.NodeAffinity == nil {
		return func(*Pod, *node) float64 { return 0 }
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil { // a preference that cannot be read prefers nothing
		return func(*Pod, *node) float64 { return 0 }
	}
	return func(_ *Pod, n *node) float64 { return float64(terms.Score(n.object)) }
}

// leastAllocated prefers nodes that have the largest part of cpu, memory and
// room for pods left once the pod is there.
func leastAllocated(p *Pod, n *node) float64 {
	part := func(free, all int64) float64 {
		if all <= 0 {
			return 0
		}
		return float64(free) / float64(all)
	}
	left := part(n.allocatable[corev1.ResourcePods]-int64(len(n.pods))-1, n.allocatable[corev1.ResourcePods])
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		left += part(n.allocatable[name]-n.used[name]-p.requests[name], n.allocatable[name])
	}
	return left / 3
}

// best returns the best of the nodes, which are sorted by name, and the score
// that decided. Equal nodes are taken in the order of their names.
func best(p *Pod, others *neighbourhood, nodes []*node) (*node, string) {
	if len(nodes) == 1 {
		return nodes[0], "the only node that fits"
	}
	totals := make([]float64, len(nodes))
	var why string
	for _, w := range scores(p, others) {
		values := make([]float64, len(nodes))
		for i, n := range nodes {
			values[i] = w.score(p, n)
		}
		low, high := values[0], values[0]
		for _, v := range values {
			low, high = min(low, v), max(high, v)
		}
		if high == low {
			continue
		}
		if why == "" {
			why = w.name
		}
		for i, v := range values {
			totals[i] += w.weight * (v - low) / (high - low)
		}
	}
	top := 0
	for i := range totals {
		if totals[i] > totals[top] {
			top = i
		}
	}
	if why == "" {
		why = "all nodes are equal"
	}
	return nodes[top], why
}
