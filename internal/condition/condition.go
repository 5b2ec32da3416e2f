// Package condition reads and sets the conditions of pods and nodes, and tells
// which pods have ended.
package condition

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// OfPod says whether a condition of a pod is True. One that is not there is not.
func OfPod(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	c := Find(&pod.Status, kind)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Ended says whether a phase is a pod's last: no container of it will run again.
func Ended(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// OfNode says whether a condition of a node is True. One that is not there is not.
func OfNode(node *corev1.Node, kind corev1.NodeConditionType) bool {
	c := FindNode(node.Status.Conditions, kind)
	return c != nil && c.Status == corev1.ConditionTrue
}

// FindNode returns the condition of a type among those of a node, nil if it is not
// there.
func FindNode(conditions []corev1.NodeCondition, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}

// Find returns the condition of a type in a pod's status, nil if it is not there.
func Find(status *corev1.PodStatus, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}
	return nil
}

// Since returns since when a condition of a pod is True, zero when it is not.
func Since(pod *corev1.Pod, kind corev1.PodConditionType) time.Time {
	if c := Find(&pod.Status, kind); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// Set puts a condition of a pod in the place of the one of its type, or adds it.
// It changes the pod.
func Set(pod *corev1.Pod, condition corev1.PodCondition) {
	if old := Find(&pod.Status, condition.Type); old != nil {
		*old = condition
		return
	}
	pod.Status.Conditions = append(pod.Status.Conditions, condition)
}

// Disrupted is the condition of a pod that goes though its own work did not end:
// why, in Kubernetes' word and in a sentence, and since when.
func Disrupted(reason, message string, since time.Time) corev1.PodCondition {
	return corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(since),
	}
}
