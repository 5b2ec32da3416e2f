package fit

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Preemption is what would make room for a pod that fits nowhere.
type Preemption struct {
	Node    string
	Victims []*Pod // of lower priority, the least important last
	Against int    // of them, which PodDisruptionBudgets would keep
}

// Preempt finds the node where the fewest pods against their budgets, and then the
// fewest and least important, would have to go for a pod to fit; nil when none would help, or the pod must not. It changes
// nothing: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/.
// A pod that AwaitsRoom needs none.
func (c *Cluster) Preempt(p *Pod) *Preemption {
	if policy := p.Object.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever || len(p.Object.Spec.SchedulingGates) > 0 {
		return nil
	}
	need, unusable := c.storage.needsOf(p)
	if unusable != nil {
		return nil
	}
	nodes := c.schedulable()
	var best *Preemption
	for _, n := range nodes {
		found := c.victims(p, need, nodes, n)
		if found != nil && (best == nil || less(found, best)) {
			best = found
		}
	}
	return best
}

// AwaitsRoom says whether others are making way for a pod on the node that is promised
// to it, where it will fit once all that are less important are gone.
func (c *Cluster) AwaitsRoom(p *Pod) bool {
	need, unusable := c.storage.needsOf(p)
	if unusable != nil {
		return false
	}
	nodes := c.schedulable()
	for _, n := range nodes {
		lower, going := map[types.UID]bool{}, false
		for uid, other := range n.pods {
			lower[uid] = other.Priority < p.Priority
			going = going || makesWay(other, p)
		}
		if n.promised[p.UID] != nil && going && c.fitsWithout(p, need, nodes, n, lower) {
			return true
		}
	}
	return false
}

// victims returns who has to go from one node: all of lower priority, less those
// that can stay after all: first those that budgets would keep, the most important
// first.
func (c *Cluster) victims(p *Pod, need needs, nodes []*node, n *node) *Preemption {
	lower := map[types.UID]bool{}
	for uid, other := range n.pods {
		if makesWay(other, p) {
			return nil // there will be room without more
		}
		if other.Priority < p.Priority {
			lower[uid] = true
		}
	}
	if len(lower) == 0 || !c.fitsWithout(p, need, nodes, n, lower) {
		return nil
	}
	var candidates []*Pod
	for uid := range lower {
		candidates = append(candidates, n.pods[uid])
	}
	slices.SortFunc(candidates, important)
	against := c.violating(candidates)
	slices.SortStableFunc(candidates, func(a, b *Pod) int { return rank(against[a.UID]) - rank(against[b.UID]) })
	found := &Preemption{Node: n.object.Name}
	for _, v := range candidates {
		delete(lower, v.UID)
		if c.fitsWithout(p, need, nodes, n, lower) {
			continue
		}
		lower[v.UID] = true
		found.Victims = append(found.Victims, v)
		found.Against += 1 - rank(against[v.UID])
	}
	if len(lower) == 0 { // it is not for want of room
		return nil
	}
	slices.SortFunc(found.Victims, important)
	return found
}

// rank orders those first whom a budget would keep.
func rank(against bool) int {
	if against {
		return 0
	}
	return 1
}

// makesWay: a pod of lower priority is about to be gone.
func makesWay(other, p *Pod) bool {
	return other.Object.DeletionTimestamp != nil && other.Priority < p.Priority
}

// fitsWithout says whether a pod fits on a node once some of its pods are gone.
func (c *Cluster) fitsWithout(p *Pod, need needs, nodes []*node, n *node, gone map[types.UID]bool) bool {
	rest := &node{object: n.object, allocatable: n.allocatable, pods: map[types.UID]*Pod{}, owners: map[types.UID]int{}, opinions: map[types.UID]bool{}, used: amounts{}, promised: n.promised}
	for uid, other := range n.pods {
		if !gone[uid] {
			rest.add(other)
		}
	}
	return len(refusals(p, rest)) == 0 && len(c.neighbourhood(p, nodes, gone).refusals(p, n)) == 0 && len(c.storageRefusals(p, need, n)) == 0
}

// important orders pods by priority, then by age.
func important(a, b *Pod) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
}

// less says whether one preemption hurts less than another.
func less(a, b *Preemption) bool {
	sum := func(p *Preemption) (total int64) {
		for _, v := range p.Victims {
			total += int64(v.Priority)
		}
		return total
	}
	return cmp.Or(cmp.Compare(a.Against, b.Against), cmp.Compare(a.Victims[0].Priority, b.Victims[0].Priority), cmp.Compare(sum(a), sum(b)),
		cmp.Compare(len(a.Victims), len(b.Victims)), b.Victims[0].Created.Compare(a.Victims[0].Created)) < 0
}

// Promise keeps the room of a node for a pod that others make way for. Only pods
// of higher priority may take it, until the pod is assumed somewhere or released.
func (c *Cluster) Promise(p *Pod, name string) {
	c.Release(p.UID)
	c.at(name).promised[p.UID] = p
}

// Release takes a promise back, and says of which node; "" when there was none.
func (c *Cluster) Release(uid types.UID) (node string) {
	for name, n := range c.nodes {
		if n.promised[uid] != nil {
			node = name
			delete(n.promised, uid)
			c.sweep(name)
		}
	}
	return node
}
