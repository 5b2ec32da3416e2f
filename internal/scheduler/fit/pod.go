package fit

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"windlass.dev/windlass/internal/hostport"
)

// amounts are quantities of resources: cpu in thousandths, all else in units.
type amounts map[corev1.ResourceName]int64

// Pod is what scheduling needs to know of a pod, worked out once.
type Pod struct {
	Object   *corev1.Pod // may be shared with a cache: it is never changed
	UID      types.UID
	Priority int32
	Created  time.Time

	node     string // "" while pending
	assumed  bool   // given a node here, not yet seen bound
	requests amounts
	ports    []corev1.ContainerPort // that it takes on its node
	claims   []claimVolume
	owner    types.UID // its controller, "" for none
	affinity nodeaffinity.RequiredNodeAffinity
	social   *social // nil for none
}

// NewPod works out what scheduling needs to know of a pod. One that is being resized
// takes the most of what it asks for, was allotted and is held to.
func NewPod(object *corev1.Pod) *Pod {
	p := &Pod{
		Object:   object,
		UID:      object.UID,
		Created:  object.CreationTimestamp.Time,
		node:     object.Spec.NodeName,
		requests: amountsOf(resource.PodRequests(object, resource.PodResourcesOptions{UseStatusResources: true})),
		affinity: nodeaffinity.GetRequiredNodeAffinity(object),
		social:   socialOf(object),
		claims:   claimsOf(object),
		ports:    hostport.Of(object),
		Priority: schedulinghelpers.PodPriority(object),
	}
	if owner := metav1.GetControllerOfNoCopy(object); owner != nil {
		p.owner = owner.UID
	}
	return p
}

// Social says whether a pod's place depends on where other pods are.
func (p *Pod) Social() bool {
	return p.social != nil || len(p.Object.Spec.TopologySpreadConstraints) > 0
}

// counts says whether a pod is one of its owner's on its node. One that is being
// deleted is not: its place is about to be free.
func (p *Pod) counts() bool { return p.owner != "" && p.Object.DeletionTimestamp == nil }

// amountsOf converts a resource list.
func amountsOf(list corev1.ResourceList) amounts {
	a := make(amounts, len(list))
	for name, q := range list {
		if name == corev1.ResourceCPU {
			a[name] = q.MilliValue()
		} else {
			a[name] = q.Value()
		}
	}
	return a
}

// node is a node and the pods on it, those that are still on their way included.
type node struct {
	object      *corev1.Node // nil while only pods of it are known
	allocatable amounts
	pods        map[types.UID]*Pod
	owners      map[types.UID]int  // of the pods that stay, how many each has
	opinions    map[types.UID]bool // of the pods that have rules on others
	promised    map[types.UID]*Pod // pending pods that others make way for here
	used        amounts
}

func (n *node) add(p *Pod) {
	n.pods[p.UID] = p
	if p.social != nil {
		n.opinions[p.UID] = true
	}
	if p.counts() {
		n.owners[p.owner]++
	}
	for name, v := range p.requests {
		n.used[name] += v
	}
}

func (n *node) drop(p *Pod) {
	delete(n.pods, p.UID)
	delete(n.opinions, p.UID)
	if p.counts() {
		if n.owners[p.owner]--; n.owners[p.owner] == 0 {
			delete(n.owners, p.owner)
		}
	}
	for name, v := range p.requests {
		n.used[name] -= v
	}
}
