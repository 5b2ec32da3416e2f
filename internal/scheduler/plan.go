package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// decision is the node for a pod, or why there is none.
type decision struct {
	node   string
	reason string // of the PodScheduled condition, when there is no node
	why    string // what decided, or the condition's message
}

// decide finds the best node for a pod. nodes are sorted by name.
func decide(p *pod, nodes []*node) decision {
	if len(p.object.Spec.SchedulingGates) > 0 {
		return decision{
			reason: corev1.PodReasonSchedulingGated,
			why:    "Scheduling is blocked due to non-empty scheduling gates",
		}
	}
	if len(nodes) == 0 {
		return decision{
			reason: corev1.PodReasonUnschedulable,
			why:    "0/0 nodes are available: no nodes available to schedule pods. To mend: start a node's agent.",
		}
	}
	var fitting []*node
	refused := make([][]refusal, 0, len(nodes))
	for _, n := range nodes {
		if r := refusals(p, n); len(r) > 0 {
			refused = append(refused, r)
		} else {
			fitting = append(fitting, n)
		}
	}
	if len(fitting) == 0 {
		return decision{reason: corev1.PodReasonUnschedulable, why: explain(refused)}
	}
	n, why := best(p, fitting)
	return decision{node: n.object.Name, why: why}
}

// explain words the refusals of all nodes as Kubernetes does, and says for each
// reason what would mend it, on the node that comes nearest.
func explain(refused [][]refusal) string {
	count := map[string]int{}
	nearest := map[string]refusal{}
	for _, node := range refused {
		for _, r := range node {
			count[r.reason]++
			if n, ok := nearest[r.reason]; !ok || r.short < n.short {
				nearest[r.reason] = r
			}
		}
	}
	var reasons, mends []string
	for _, reason := range slices.Sorted(maps.Keys(count)) {
		reasons = append(reasons, fmt.Sprintf("%d %s", count[reason], reason))
		mends = append(mends, nearest[reason].mend)
	}
	slices.Sort(reasons)
	return fmt.Sprintf("0/%d nodes are available: %s. To mend: %s.",
		len(refused), strings.Join(reasons, ", "), strings.Join(mends, "; "))
}
