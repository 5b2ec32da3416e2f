package podgc

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/condition"
)

const (
	// quarantine is how long a pod's node must have been missing.
	quarantine = 40 * time.Second

	// finishedLimit is how many finished pods are kept, as in Kubernetes.
	finishedLimit = 12_500
)

// removal is a pod to delete at once, and why.
type removal struct {
	Pod  *corev1.Pod
	Fail bool // its phase becomes Failed first: nobody will say how it ended
	Why  string
}

// plan decides which pods go. missing says since when each node that pods are
// bound to has been seen missing, and out names the nodes that are not ready and
// of which somebody has said that they are out of service.
func plan(pods []*corev1.Pod, missing map[string]time.Time, out map[string]bool, now time.Time) []removal {
	var removals []removal
	var finished []*corev1.Pod
	for _, pod := range pods {
		since, gone := missing[pod.Spec.NodeName]
		switch {
		case pod.Spec.NodeName == "" && pod.DeletionTimestamp != nil:
			removals = append(removals, removal{Pod: pod, Why: "it is being deleted and was never bound to a node"})
		case gone && !now.Before(since.Add(quarantine)):
			removals = append(removals, removal{Pod: pod, Fail: !condition.Ended(pod.Status.Phase), Why: "its node " + pod.Spec.NodeName + " is gone"})
		case out[pod.Spec.NodeName] && pod.DeletionTimestamp != nil:
			removals = append(removals, removal{Pod: pod, Fail: !condition.Ended(pod.Status.Phase), Why: "it is being deleted, and its node " + pod.Spec.NodeName + " is out of service"})
		case condition.Ended(pod.Status.Phase):
			finished = append(finished, pod)
		}
	}
	if n := len(finished) - finishedLimit; n > 0 {
		slices.SortFunc(finished, func(a, b *corev1.Pod) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		for _, pod := range finished[:n] {
			removals = append(removals, removal{Pod: pod, Why: "it has finished, and there are too many that have"})
		}
	}
	return removals
}

// outOfService: the node is not ready, and has the taint by which somebody vouches
// that nothing runs on it:
// https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/.
func outOfService(node *corev1.Node) bool {
	return !condition.OfNode(node, corev1.NodeReady) && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}
