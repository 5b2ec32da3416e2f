package node

import (
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/internal/condition"
)

// gracePeriod is how old a node's Lease may be while the node counts as alive,
// where the Lease does not say.
const gracePeriod = 40 * time.Second

// graceOf is how old a node's Lease may be: as it says itself.
func graceOf(lease *coordinationv1.Lease) time.Duration {
	if lease == nil || lease.Spec.LeaseDurationSeconds == nil || *lease.Spec.LeaseDurationSeconds <= 0 {
		return gracePeriod
	}
	return time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
}

// decision is what a node needs now.
type decision struct {
	Conditions []corev1.NodeCondition // to be written when Lost
	Lost       bool                   // its agent is not heard of and its status does not say so
	Taints     []corev1.Taint
	Retaint    bool      // the taints differ from the node's
	Why        string    // for Lost
	Silent     bool      // nobody speaks for the node's pods
	WakeAt     time.Time // when the node's Lease is too old, if nothing happens before
}

// plan decides what a node's status and taints should be. The node's Lease, which
// may be nil, says how long it lives after it was heard; heard is by the clock of
// this process, since machines' clocks may differ.
func plan(node *corev1.Node, lease *coordinationv1.Lease, heard, now time.Time) decision {
	var d decision
	d.Conditions = node.Status.Conditions
	if deadline := heard.Add(graceOf(lease)); now.Before(deadline) {
		d.WakeAt = deadline
	} else {
		d.Silent = true
		d.Conditions = unknown(node.Status.Conditions, now)
		d.Lost = !equality.Semantic.DeepEqual(d.Conditions, node.Status.Conditions)
		d.Why = "the node's agent has not renewed its Lease since " + heard.UTC().Format(time.RFC3339)
	}
	d.Taints = taints(node, d.Conditions, now)
	d.Retaint = !sameTaints(d.Taints, node.Spec.Taints)
	return d
}

// unready returns the conditions of a pod whose node is silent: it is not ready.
// It returns nil when they say so already.
func unready(pod *corev1.Pod, now time.Time) []corev1.PodCondition {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	if i < 0 || pod.Status.Conditions[i].Status != corev1.ConditionTrue {
		return nil
	}
	conditions := slices.Clone(pod.Status.Conditions)
	conditions[i].Status, conditions[i].Reason, conditions[i].Message = corev1.ConditionFalse, "NodeNotReady", "the node of the pod is not reachable"
	conditions[i].LastTransitionTime = metav1.NewTime(now)
	return conditions
}

// reported are the conditions of a node that its agent reports. Others are somebody
// else's, who may still speak for them.
var reported = []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

// unknown returns the conditions of a node whose agent is silent: all that the
// agent reports are Unknown, Ready among them.
func unknown(conditions []corev1.NodeCondition, now time.Time) []corev1.NodeCondition {
	result := slices.Clone(conditions)
	for _, kind := range reported {
		c := corev1.NodeCondition{
			Type: kind, Status: corev1.ConditionUnknown, LastTransitionTime: metav1.NewTime(now),
			Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status.",
		}
		has := condition.FindNode(result, kind)
		switch {
		case has == nil && kind == corev1.NodeReady:
			c.Reason, c.Message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
			result = append(result, c)
		case has != nil && has.Status != corev1.ConditionUnknown:
			c.LastHeartbeatTime = has.LastHeartbeatTime
			*has = c
		}
	}
	return result
}

// statusOf is the status of a condition, False where there is none.
func statusOf(conditions []corev1.NodeCondition, kind corev1.NodeConditionType) corev1.ConditionStatus {
	if c := condition.FindNode(conditions, kind); c != nil {
		return c.Status
	}
	return corev1.ConditionFalse
}

// taints returns the node's taints with those of this controller as they
// should be: not-ready or unreachable, each against scheduling and against
// running, the one of a cordoned node, and those of what a node is short of.
func taints(node *corev1.Node, conditions []corev1.NodeCondition, now time.Time) []corev1.Taint {
	ready := statusOf(conditions, corev1.NodeReady)
	under := func(kind corev1.NodeConditionType) bool { return statusOf(conditions, kind) == corev1.ConditionTrue }
	want := map[string]bool{
		corev1.TaintNodeMemoryPressure: under(corev1.NodeMemoryPressure),
		corev1.TaintNodeDiskPressure:   under(corev1.NodeDiskPressure),
		corev1.TaintNodePIDPressure:    under(corev1.NodePIDPressure),
		corev1.TaintNodeNotReady:       ready == corev1.ConditionFalse,
		corev1.TaintNodeUnreachable:    ready == corev1.ConditionUnknown,
		corev1.TaintNodeUnschedulable:  node.Spec.Unschedulable,
	}
	var result []corev1.Taint
	for _, taint := range node.Spec.Taints {
		if wanted, ours := want[taint.Key]; ours && !wanted {
			continue
		}
		if taint.Effect == corev1.TaintEffectNoExecute && taint.TimeAdded == nil { // somebody's own: tolerations count from now
			added := metav1.NewTime(now)
			taint.TimeAdded = &added
		}
		result = append(result, taint)
	}
	for _, key := range []string{
		corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable,
		corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure,
	} {
		if !want[key] {
			continue
		}
		result = withTaint(result, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		if key == corev1.TaintNodeNotReady || key == corev1.TaintNodeUnreachable {
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
	return slices.EqualFunc(a, b, func(x, y corev1.Taint) bool {
		return x.MatchTaint(&y) && x.Value == y.Value && (x.TimeAdded == nil) == (y.TimeAdded == nil)
	})
}
