package fit

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/internal/condition"
)

// Cluster is what is known of the nodes and the pods on them: what the cache
// has shown, and what was decided since. Use NewCluster to make one. It is not
// safe for concurrent use.
type Cluster struct {
	nodes map[string]*node
	pods  map[types.UID]*Pod // those with a node

	spaces  map[string]labels.Set // of namespaces, their labels
	storage storage
	budgets map[types.NamespacedName]budget
}

// NewCluster returns a cluster without nodes.
func NewCluster() *Cluster {
	return &Cluster{nodes: map[string]*node{}, pods: map[types.UID]*Pod{}, spaces: map[string]labels.Set{}, storage: newStorage(), budgets: map[types.NamespacedName]budget{}}
}

// schedulable returns the nodes that exist, by name.
func (c *Cluster) schedulable() []*node {
	nodes := make([]*node, 0, len(c.nodes))
	for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
		if n := c.nodes[name]; n.object != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// SetNode takes in a node as it is now and says whether a pod that did not fit
// before could fit now.
func (c *Cluster) SetNode(object *corev1.Node) bool {
	n := c.at(object.Name)
	before := n.object
	n.object, n.allocatable = object, amountsOf(object.Status.Allocatable)
	return before == nil ||
		before.Spec.Unschedulable != object.Spec.Unschedulable ||
		condition.OfNode(before, corev1.NodeReady) != condition.OfNode(object, corev1.NodeReady) ||
		!maps.Equal(before.Labels, object.Labels) ||
		!equality.Semantic.DeepEqual(before.Spec.Taints, object.Spec.Taints) ||
		!equality.Semantic.DeepEqual(before.Status.Allocatable, object.Status.Allocatable)
}

// RemoveNode takes a node out. Pods on it are kept until they are gone too.
func (c *Cluster) RemoveNode(name string) {
	if n := c.nodes[name]; n != nil {
		n.object = nil
		c.sweep(name)
	}
}

// SetNamespace takes in a namespace's labels; nil forgets it. It says whether a
// pod that did not fit before could fit now.
func (c *Cluster) SetNamespace(name string, set map[string]string) bool {
	if set == nil {
		delete(c.spaces, name)
		return false
	}
	changed := !maps.Equal(c.spaces[name], set)
	c.spaces[name] = set
	return changed
}

// SetPod takes in a pod that has a node, in place of what was known or assumed of it.
func (c *Cluster) SetPod(p *Pod) {
	c.RemovePod(p.UID)
	c.pods[p.UID] = p
	c.at(p.node).add(p)
}

// Frees says whether a pod takes less of some resource than it did.
func (c *Cluster) Frees(p *Pod) bool {
	before, ok := c.pods[p.UID]
	if !ok {
		return false
	}
	for name, amount := range before.requests {
		if p.requests[name] < amount {
			return true
		}
	}
	return false
}

// RemovePod takes a pod out and says whether it was in.
func (c *Cluster) RemovePod(uid types.UID) bool {
	p, ok := c.pods[uid]
	if !ok {
		return false
	}
	delete(c.pods, uid)
	c.nodes[p.node].drop(p)
	c.sweep(p.node)
	return true
}

// Assume counts a pod on the node that was decided for it.
func (c *Cluster) Assume(p *Pod, node string) {
	c.Release(p.UID)
	assumed := *p
	assumed.node, assumed.assumed = node, true
	c.SetPod(&assumed)
}

// Assumed says whether a pod has been given a node that the cache does not show yet.
func (c *Cluster) Assumed(uid types.UID) bool {
	p, ok := c.pods[uid]
	return ok && p.assumed
}

func (c *Cluster) at(name string) *node {
	n := c.nodes[name]
	if n == nil {
		n = &node{pods: map[types.UID]*Pod{}, owners: map[types.UID]int{}, opinions: map[types.UID]bool{}, promised: map[types.UID]*Pod{}, used: amounts{}}
		c.nodes[name] = n
	}
	return n
}

// sweep forgets a node that neither exists nor has pods, nor is promised to one.
func (c *Cluster) sweep(name string) {
	if n := c.nodes[name]; n.object == nil && len(n.pods)+len(n.promised) == 0 {
		delete(c.nodes, name)
	}
}
