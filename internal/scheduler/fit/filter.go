package fit

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"windlass.dev/windlass/internal/hostport"
)

// Refusal is why a pod cannot run on a node.
type Refusal struct {
	Node   string
	Reason string // as Kubernetes words it; counted over the nodes
	Mend   string // what would make it fit
	taint  string // of several for the same reason each is mended in its own way
	short  int64  // how much is missing, to name the node that is nearest
}

// filter says why a pod cannot run on a node; nothing when it can.
type filter func(*Pod, *node) []Refusal

// filters are asked in this order; the first that refuses a node explains it.
var filters = []filter{unschedulable, ready, taints, affinity, ports, fit}

// refusals returns why a pod cannot run on a node; nothing when it can.
func refusals(p *Pod, n *node) []Refusal {
	for _, f := range filters {
		if r := f(p, n); len(r) > 0 {
			for i := range r {
				r[i].Node = n.object.Name
			}
			return r
		}
	}
	return nil
}

// unschedulable refuses cordoned nodes.
func unschedulable(p *Pod, n *node) []Refusal {
	taint := &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if !n.object.Spec.Unschedulable || tolerates(p, taint) {
		return nil
	}
	return []Refusal{{Reason: "node(s) were unschedulable", Mend: fmt.Sprintf("uncordon node %s", n.object.Name)}}
}

// ready refuses nodes that are not ready, as the taint does that is put on them a moment later.
func ready(p *Pod, n *node) []Refusal {
	taint := &corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	message := "its agent has not reported"
	for _, c := range n.object.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return nil
			}
			message = c.Reason
		}
	}
	if tolerates(p, taint) {
		return nil
	}
	return []Refusal{{Reason: "node(s) were not ready", Mend: fmt.Sprintf("bring node %s back (%s)", n.object.Name, message)}}
}

// taints refuses nodes with a taint that keeps the pod away.
func taints(p *Pod, n *node) []Refusal {
	for i := range n.object.Spec.Taints {
		t := &n.object.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || tolerates(p, t) {
			continue
		}
		return []Refusal{{
			Reason: "node(s) had untolerated taint(s)",
			taint:  t.ToString(),
			Mend:   fmt.Sprintf("tolerate %s or remove it from node %s", t.ToString(), n.object.Name),
		}}
	}
	return nil
}

func tolerates(p *Pod, t *corev1.Taint) bool {
	return schedulinghelpers.TolerationsTolerateTaint(klog.Logger{}, p.Object.Spec.Tolerations, t, false)
}

// affinity refuses nodes that the pod's nodeSelector or required node affinity does not match.
func affinity(p *Pod, n *node) []Refusal {
	ok, err := p.affinity.Match(n.object)
	if ok && err == nil {
		return nil
	}
	r := Refusal{Reason: "node(s) didn't match Pod's node affinity/selector"}
	if err != nil {
		r.Mend = fmt.Sprintf("correct the pod's node affinity: %v", err)
		return []Refusal{r}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Object.Spec.NodeSelector)) {
		if want := p.Object.Spec.NodeSelector[key]; n.object.Labels[key] != want {
			r.Mend = fmt.Sprintf("label a node %s=%s, or change the pod's nodeSelector", key, want)
			return []Refusal{r}
		}
	}
	r.Mend = "label a node as the pod's required node affinity asks, or change it"
	return []Refusal{r}
}

// ports refuses nodes where another pod has a host port that this one asks for.
func ports(p *Pod, n *node) []Refusal {
	for _, want := range p.ports {
		for _, other := range n.pods {
			for _, has := range other.ports {
				if hostport.Conflict(want, has) {
					return []Refusal{{
						Reason: "node(s) didn't have free ports for the requested pod ports",
						Mend: fmt.Sprintf("host port %d/%s on node %s is taken by pod %s/%s", want.HostPort, want.Protocol,
							n.object.Name, other.Object.Namespace, other.Object.Name),
					}}
				}
			}
		}
	}
	return nil
}

// fit refuses nodes that have too little left of what the pod requests.
func fit(p *Pod, n *node) []Refusal {
	var found []Refusal
	kept, places := n.keptFrom(p)
	if limit := n.allocatable[corev1.ResourcePods]; int64(len(n.pods))+places >= limit {
		found = append(found, Refusal{
			Reason: "Too many pods",
			Mend:   fmt.Sprintf("node %s runs %d pods of at most %d", n.object.Name, len(n.pods), limit),
			short:  int64(len(n.pods)) + 1 - limit,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(p.requests)) {
		want, has := p.requests[name], n.allocatable[name]
		free := has - n.used[name] - kept[name]
		if want == 0 || want <= free {
			continue
		}
		mend := fmt.Sprintf("the pod requests %s %s, node %s has %s free of %s: request less or free some",
			show(name, want), name, n.object.Name, show(name, max(free, 0)), show(name, has))
		if want > has {
			mend = fmt.Sprintf("the pod requests %s %s, node %s has %s in all: request less or add a larger node",
				show(name, want), name, n.object.Name, show(name, has))
		}
		found = append(found, Refusal{Reason: fmt.Sprintf("Insufficient %s", name), Mend: mend, short: want - free})
	}
	return found
}

// keptFrom is what a node keeps for pending pods that others make way for, and
// that a pod does not come before.
func (n *node) keptFrom(p *Pod) (kept amounts, places int64) {
	for uid, other := range n.promised {
		if uid == p.UID || other.Priority < p.Priority {
			continue
		}
		if kept == nil {
			kept = amounts{}
		}
		places++
		for name, v := range other.requests {
			kept[name] += v
		}
	}
	return kept, places
}

// show prints an amount as a manifest would have it.
func show(name corev1.ResourceName, v int64) string {
	switch name {
	case corev1.ResourceCPU:
		return resource.NewMilliQuantity(v, resource.DecimalSI).String()
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return resource.NewQuantity(v, resource.BinarySI).String()
	}
	return resource.NewQuantity(v, resource.DecimalSI).String()
}
