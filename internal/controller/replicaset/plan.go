package replicaset

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/rollout"
)

// burst is how many pods one plan makes or deletes at most, so that the status
// is written, and a change of mind seen, now and then.
const burst = 500

// Snapshot is all that a decision rests on.
type Snapshot struct {
	Set  Set
	Pods []*corev1.Pod // those the set controls, and those that nothing controls

	// Siblings are the active pods of all sets with the same controller. They
	// matter only to the choice of pods to delete.
	Siblings []*corev1.Pod
	Now      time.Time
}

// Plan is what to do about a set's pods.
type Plan struct {
	Adopt   []*corev1.Pod // to be controlled by the set
	Release []*corev1.Pod // to be let go
	Create  int           // how many to make
	Delete  []*corev1.Pod // in this order
	More    bool          // there is more to do after this
	Why     string
}

// Decide returns what to do: adopt and release pods by the selector, then make or
// delete as many as the set has too few or too many. A set that is being deleted
// leaves its pods alone.
func Decide(s Snapshot) Plan {
	if s.Set.going() {
		return Plan{Why: "the set is being deleted"}
	}
	var plan Plan
	var active []*corev1.Pod
	for _, pod := range s.Pods {
		matches := s.Set.Selector.Matches(labels.Set(pod.Labels))
		state := rollout.StateOf(pod)
		owner := metav1.GetControllerOfNoCopy(pod)
		switch mine := owner != nil && owner.UID == s.Set.Object.GetUID(); {
		case mine && !matches:
			if pod.DeletionTimestamp == nil {
				plan.Release = append(plan.Release, pod)
			}
		case mine && state.Active:
			active = append(active, pod)
		case owner == nil && matches && state.Active:
			plan.Adopt = append(plan.Adopt, pod)
			active = append(active, pod)
		}
	}
	missing := int(s.Set.Replicas) - len(active)
	plan.Why = fmt.Sprintf("%d pods of %d", len(active), s.Set.Replicas)
	switch {
	case missing > 0:
		plan.Create = min(missing, burst)
		plan.More = missing > burst
	case missing < 0:
		rank(active, s.Siblings)
		plan.Delete = active[:min(-missing, burst)]
		plan.More = -missing > burst
	}
	return plan
}

// StatusOf returns what a set should report of its pods, and when that changes by
// the mere passing of time; zero when it does not. failure is why pods could not
// be made or deleted, nil if all could.
func StatusOf(s Snapshot, failure *Failure) (Status, time.Time) {
	mine := slices.DeleteFunc(slices.Clone(s.Pods), func(pod *corev1.Pod) bool {
		return !metav1.IsControlledBy(pod, s.Set.Object) || !s.Set.Selector.Matches(labels.Set(pod.Labels))
	})
	counts, next := rollout.Count(mine, s.Set.MinReadySeconds, s.Now)
	status := Status{
		Replicas:           counts.Active,
		ReadyReplicas:      counts.Ready,
		AvailableReplicas:  counts.Available,
		ObservedGeneration: s.Set.Object.GetGeneration(),
		Failure:            failure,
	}
	if s.Set.Status.TerminatingReplicas != nil {
		status.TerminatingReplicas = ptr.To(counts.Terminating)
	}
	full := labels.SelectorFromSet(s.Set.Template.Labels)
	for _, pod := range mine {
		if rollout.StateOf(pod).Active && full.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
	}
	if was := s.Set.Status.Failure; failure != nil && was != nil && was.Reason == failure.Reason {
		status.Failure = was // the same trouble, since the same time
	}
	return status, next
}
