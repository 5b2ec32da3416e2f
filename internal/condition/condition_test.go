package condition

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSet: one condition of a type takes the place of another, and leaves the rest.
func TestSet(t *testing.T) {
	pod := &corev1.Pod{}
	Set(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	for _, reason := range []string{"EvictionByEvictionAPI", "DeletionByPodGC"} {
		Set(pod, Disrupted(reason, "it goes", time.Unix(1, 0)))
	}
	if is := pod.Status.Conditions; len(is) != 2 || is[1].Reason != "DeletionByPodGC" || !is[1].LastTransitionTime.Time.Equal(time.Unix(1, 0)) {
		t.Errorf("conditions %+v", is)
	}
	if !OfPod(pod, corev1.PodReady) || !OfPod(pod, corev1.DisruptionTarget) || OfPod(pod, corev1.PodScheduled) {
		t.Errorf("the pod is said not to be ready, or disrupted, or to be scheduled: %+v", pod.Status.Conditions)
	}
	if at := Since(pod, corev1.DisruptionTarget); !at.Equal(time.Unix(1, 0)) || !Since(pod, corev1.PodScheduled).IsZero() {
		t.Errorf("the pod is disrupted since %v", at)
	}
	Set(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Unix(2, 0))})
	if c := Find(&pod.Status, corev1.PodReady); c == nil || c.Status != corev1.ConditionFalse || !Since(pod, corev1.PodReady).IsZero() || Find(&pod.Status, corev1.PodScheduled) != nil {
		t.Errorf("conditions %+v: the pod is said to be ready, or scheduled", pod.Status.Conditions)
	}
	if OfPod(pod, corev1.PodReady) {
		t.Error("a condition that is False is said to be True")
	}
}

func TestOfNode(t *testing.T) {
	node := &corev1.Node{}
	for status, want := range map[corev1.ConditionStatus]bool{corev1.ConditionTrue: true, corev1.ConditionFalse: false, corev1.ConditionUnknown: false} {
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
		if OfNode(node, corev1.NodeReady) != want || OfNode(node, corev1.NodeDiskPressure) {
			t.Errorf("Ready=%s: want %v, and no pressure", status, want)
		}
	}
}
