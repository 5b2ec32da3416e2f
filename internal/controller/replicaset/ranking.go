package replicaset

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/rollout"
)

// rank sorts pods by how little is lost with them, the least first: pods that may
// not exist, for none of the others is too many if they do not; pods on no node, pending, of unknown phase, not ready; of a lower deletion cost; on nodes
// that have more of the pods of the same controller; ready for a shorter time;
// with more restarts; younger; by name. That is Kubernetes' order
// (https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset),
// with exact times where it compares them roughly.
func rank(pods, siblings []*corev1.Pod) {
	perNode := map[string]int{}
	for _, pod := range siblings {
		perNode[pod.Spec.NodeName]++
	}
	worth := make(map[*corev1.Pod]value, len(pods))
	for _, pod := range pods {
		worth[pod] = valueOf(pod, perNode[pod.Spec.NodeName])
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return worth[a].compare(worth[b]) })
}

// value is what a pod is worth to its set.
type value struct {
	known      bool // to have been made
	assigned   bool
	phase      int
	ready      bool
	cost       int
	neighbours int
	readySince time.Time
	restarts   int32
	created    time.Time
	name       string
}

func valueOf(pod *corev1.Pod, neighbours int) value {
	state := rollout.StateOf(pod)
	v := value{
		known:      pod.UID != "",
		assigned:   pod.Spec.NodeName != "",
		ready:      state.Ready,
		neighbours: neighbours,
		readySince: state.ReadySince,
		created:    pod.CreationTimestamp.Time,
		name:       pod.Name,
	}
	switch pod.Status.Phase {
	case corev1.PodUnknown:
		v.phase = 1
	case corev1.PodRunning:
		v.phase = 2
	}
	if cost, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32); err == nil {
		v.cost = int(cost)
	}
	for i := range pod.Status.ContainerStatuses {
		v.restarts = max(v.restarts, pod.Status.ContainerStatuses[i].RestartCount)
	}
	return v
}

func (v value) compare(w value) int {
	return cmp.Or(
		compareBool(v.known, w.known),
		compareBool(v.assigned, w.assigned),
		cmp.Compare(v.phase, w.phase),
		compareBool(v.ready, w.ready),
		cmp.Compare(v.cost, w.cost),
		cmp.Compare(w.neighbours, v.neighbours),
		w.readySince.Compare(v.readySince),
		cmp.Compare(w.restarts, v.restarts),
		w.created.Compare(v.created),
		cmp.Compare(v.name, w.name),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
