package node

import (
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// gracePeriod is how old a node's Lease may be while the node counts as alive.
const gracePeriod = 40 * time.Second

// decision is what a node needs now.
type decision struct {
	Conditions []corev1.NodeCondition // to be written when Lost
	Lost       bool                   // its agent is not heard of and its status does not say so
	Taints     []corev1.Taint
	Retaint    bool      // the taints differ from the node's
	Why        string    // for Lost
	WakeAt     time.Time // when the node's Lease is too old, if nothing happens before
}

// plan decides what a node's status and taints should be, by its Lease, which
// may be nil. Nobody can have been heard while nobody listened: a node counts as
// alive at listening, when this controller began.
func plan(node *corev1.Node, lease *coordinationv1.Lease, listening, now time.Time) decision {
	var d decision
	heard := node.CreationTimestamp.Time
	if listening.After(heard) {
		heard = listening
	}
	if lease != nil && lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(heard) {
		heard = lease.Spec.RenewTime.Time
	}
	d.Conditions = node.Status.Conditions
	if deadline := heard.Add(gracePeriod); now.Before(deadline) {
		d.WakeAt = deadline
	} else {
		d.Conditions = unknown(node.Status.Conditions, now)
		d.Lost = !equality.Semantic.DeepEqual(d.Conditions, node.Status.Conditions)
		d.Why = "the node's agent has not renewed its Lease since " + heard.UTC().Format(time.RFC3339)
	}
	d.Taints = taints(node, readiness(d.Conditions), now)
	d.Retaint = !sameTaints(d.Taints, node.Spec.Taints)
	return d
}

// unknown returns the conditions of a node whose agent is silent: all that the
// agent reports are Unknown, Ready among them.
func unknown(conditions []corev1.NodeCondition, now time.Time) []corev1.NodeCondition {
	result := slices.Clone(conditions)
	if !slices.ContainsFunc(result, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }) {
		result = append(result, corev1.NodeCondition{Type: corev1.NodeReady})
	}
	for i := range result {
		if result[i].Status == corev1.ConditionUnknown {
			continue
		}
		result[i].Status = corev1.ConditionUnknown
		result[i].Reason = "NodeStatusUnknown"
		result[i].Message = "Kubelet stopped posting node status."
		result[i].LastTransitionTime = metav1.NewTime(now)
	}
	return result
}

// readiness is the status of the Ready condition; without one a node is not
// ready.
func readiness(conditions []corev1.NodeCondition) corev1.ConditionStatus {
	for _, condition := range conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status
		}
	}
	return corev1.ConditionFalse
}

// taints returns the node's taints with those of this controller as they
// should be: not-ready or unreachable, each against scheduling and against
// running, and the one of a cordoned node.
func taints(node *corev1.Node, ready corev1.ConditionStatus, now time.Time) []corev1.Taint {
	want := map[string]bool{
		corev1.TaintNodeNotReady:      ready == corev1.ConditionFalse,
		corev1.TaintNodeUnreachable:   ready == corev1.ConditionUnknown,
		corev1.TaintNodeUnschedulable: node.Spec.Unschedulable,
	}
	var result []corev1.Taint
	for _, taint := range node.Spec.Taints {
		if wanted, ours := want[taint.Key]; !ours || wanted {
			result = append(result, taint)
		}
	}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable} {
		if !want[key] {
			continue
		}
		result = withTaint(result, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		if key != corev1.TaintNodeUnschedulable {
			added := metav1.NewTime(now)
			result = withTaint(result, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &added})
		}
	}
	return result
}

func withTaint(list []corev1.Taint, taint corev1.Taint) []corev1.Taint {
	if slices.ContainsFunc(list, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
		return list
	}
	return append(list, taint)
}

func sameTaints(a, b []corev1.Taint) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Taint) bool { return x.MatchTaint(&y) && x.Value == y.Value })
}
