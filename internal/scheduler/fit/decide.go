package fit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Decision is the node for a pod, or why there is none.
type Decision struct {
	Node   string // "" when there is none
	Reason string // of the PodScheduled condition, when there is no node
	Why    string // what decided, or the condition's message

	// Claims are those of the pod that get a volume on the node, or whose volume is
	// yet to be seen; the pod can be given the node once they are bound.
	Claims []*corev1.PersistentVolumeClaim

	// Bound are those that have a volume, which this rests on.
	Bound []*corev1.PersistentVolumeClaim

	// Refusals are why each node refused the pod, by node, when there is none
	// for it; a node may have several.
	Refusals []Refusal
}

// Decide finds the best node for a pod, and changes nothing.
func (c *Cluster) Decide(p *Pod) Decision { return c.decide(p, "") }

// DecideAgain takes back what was assumed of a pod and finds the node for it
// anew: the one where it waits for its claims as long as it fits there, since a
// volume may be on its way there already.
func (c *Cluster) DecideAgain(p *Pod) Decision {
	kept := c.pods[p.UID].node
	c.RemovePod(p.UID)
	return c.decide(p, kept)
}

// decide finds the best node for a pod: the one kept for it, if that fits.
func (c *Cluster) decide(p *Pod, kept string) Decision {
	if len(p.Object.Spec.SchedulingGates) > 0 {
		return Decision{
			Reason: corev1.PodReasonSchedulingGated,
			Why:    "Scheduling is blocked due to non-empty scheduling gates",
		}
	}
	nodes := c.schedulable()
	if len(nodes) == 0 {
		return Decision{
			Reason: corev1.PodReasonUnschedulable,
			Why:    "0/0 nodes are available: no nodes available to schedule pods. To mend: start a node's agent.",
		}
	}
	need, unusable := c.storage.needsOf(p)
	if unusable != nil {
		return Decision{
			Reason: corev1.PodReasonUnschedulable,
			Why:    fmt.Sprintf("0/%d nodes are available: %s. To mend: %s.", len(nodes), unusable.Reason, unusable.Mend),
		}
	}
	if kept != "" && len(need.lost) > 0 { // one that is truly lost is said to be by its phase
		return Decision{Node: kept, Why: "its volume is about to be seen", Claims: need.lost}
	}
	others := c.neighbourhood(p, nodes, nil)
	var fitting []*node
	var refused []Refusal
	for _, n := range nodes {
		r := refusals(p, n)
		if len(r) == 0 {
			r = others.refusals(p, n)
		}
		if len(r) == 0 {
			r = c.storageRefusals(p, need, n)
		}
		if len(r) > 0 {
			refused = append(refused, r...)
		} else {
			fitting = append(fitting, n)
		}
	}
	if len(fitting) == 0 {
		return Decision{Reason: corev1.PodReasonUnschedulable, Why: explain(refused, len(nodes)), Refusals: refused}
	}
	if i := slices.IndexFunc(fitting, func(n *node) bool { return n.object.Name == kept }); i >= 0 {
		fitting = fitting[i : i+1]
	}
	n, why := best(p, others, fitting)
	return Decision{Node: n.object.Name, Why: why, Claims: need.open, Bound: need.had}
}

// explain words the refusals of all nodes as Kubernetes does, and says for each
// reason what would mend it, on the node that comes nearest.
func explain(refused []Refusal, nodes int) string {
	count := map[string]int{}
	nearest := map[string]Refusal{} // by reason and taint
	for _, r := range refused {
		count[r.Reason]++
		if n, ok := nearest[r.Reason+r.taint]; !ok || r.short < n.short {
			nearest[r.Reason+r.taint] = r
		}
	}
	var reasons, mends []string
	for reason, n := range count {
		reasons = append(reasons, fmt.Sprintf("%d %s", n, reason))
	}
	for _, what := range slices.Sorted(maps.Keys(nearest)) {
		mends = append(mends, nearest[what].Mend)
	}
	slices.Sort(reasons)
	return fmt.Sprintf("0/%d nodes are available: %s. To mend: %s.",
		nodes, strings.Join(reasons, ", "), strings.Join(mends, "; "))
}
