// Package rollout decides how a Deployment moves from what is to what is
// wanted. It is pure: Decide takes a Snapshot and returns a Plan, a value that
// can be printed, compared and carried out by somebody else, one step after the
// other. It reads no clock, talks to nobody and remembers nothing.
//
// The rules are those of Kubernetes
// (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/), with
// two differences that follow from looking at pods and not at the counts that
// ReplicaSets report: one plan holds every step that is possible now, where
// Kubernetes takes one per look; and a pod counts as available only while no
// decision made so far can take it away, so that no step, and no crash between
// two steps, leaves fewer pods available than the strategy allows.
//
// The scripts in testdata/scenarios are the specification.
package rollout

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
)

// Snapshot is all that a decision rests on. Decide changes nothing in it, so
// that objects of a shared cache may be passed as they are.
type Snapshot struct {
	Deployment *appsv1.Deployment

	// ReplicaSets are the sets in the Deployment's namespace that it controls
	// and those that nothing controls. Others may be left out.
	ReplicaSets []*appsv1.ReplicaSet

	// Pods are the pods by the UID of the ReplicaSet that controls them,
	// finished and terminating ones included.
	Pods map[types.UID][]*corev1.Pod

	// Taken are sets that hold names under which earlier plans wanted to create
	// one, as read from the API after it refused.
	Taken []*appsv1.ReplicaSet

	// OnFailure is what the Deployment's namespace says of rollouts that fail;
	// empty when it says nothing.
	OnFailure v1alpha1.FailurePolicy

	// Now is the time of the decision.
	Now time.Time
}

// PodState is the part of a pod that rollouts look at. It is comparable: a
// change of a pod that leaves its state the same changes no plan.
type PodState struct {
	Active      bool      // neither finished nor terminating
	Terminating bool      // asked to stop, not finished
	Ready       bool      // by its Ready condition
	ReadySince  time.Time // of the condition's last transition; zero when not ready
	Failing     string    // the reason for which waiting will not make it ready; empty when there is none
	Rejected    bool      // finished in failure, and not because its node was taken from it
}

// StateOf returns the state of a pod.
func StateOf(pod *corev1.Pod) PodState {
	var s PodState
	if !condition.Ended(pod.Status.Phase) {
		s.Terminating = pod.DeletionTimestamp != nil
		s.Active = !s.Terminating
	}
	if c := condition.Find(&pod.Status, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		s.Ready, s.ReadySince = true, c.LastTransitionTime.Time
	}
	if s.Active && !s.Ready {
		_, s.Failing = failing(pod)
	}
	s.Rejected = rejected(pod)
	return s
}

// AvailableAt returns when the pod becomes available: as soon as it has been
// ready for minReadySeconds. It returns false when the pod is not active or not
// ready, so that no time can be given.
func (s PodState) AvailableAt(minReadySeconds int32) (time.Time, bool) {
	if !s.Active || !s.Ready {
		return time.Time{}, false
	}
	if minReadySeconds == 0 {
		return time.Time{}, true
	}
	return s.ReadySince.Add(time.Duration(minReadySeconds) * time.Second), true
}

// Counts says how many of a set's pods are in which state.
type Counts struct {
	Active      int32
	Ready       int32 // of the active ones
	Available   int32 // of the ready ones, ready for long enough
	Terminating int32
	Failing     int32 // active ones that waiting will not make ready
	Rejected    int32 // finished ones whose failure is not their node's
}

// Count counts pods. It also returns when the next of them becomes available by
// the mere passing of time, zero when none does.
func Count(pods []*corev1.Pod, minReadySeconds int32, now time.Time) (counts Counts, next time.Time) {
	for _, pod := range pods {
		s := StateOf(pod)
		if s.Terminating {
			counts.Terminating++
		}
		if s.Rejected {
			counts.Rejected++
		}
		if s.Failing != "" {
			counts.Failing++
		}
		if !s.Active {
			continue
		}
		counts.Active++
		at, ready := s.AvailableAt(minReadySeconds)
		switch {
		case !ready:
		case at.After(now):
			counts.Ready++
			next = earlier(next, at)
		default:
			counts.Ready++
			counts.Available++
		}
	}
	return counts, next
}

// earlier returns the earlier of two times, where zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
