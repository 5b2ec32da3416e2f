package rollout

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/utils/ptr"
)

// set is one ReplicaSet of the Deployment while a plan is being made.
type set struct {
	rs     *appsv1.ReplicaSet
	pods   Counts
	spec   int32 // replicas wanted, as planned so far
	marked bool  // a step of this plan notes the Deployment's size on it
	fresh  bool  // created by this plan
}

// going says whether the set itself is being deleted: it cannot be scaled, and
// its pods are no longer to be relied on.
func (s *set) going() bool { return s.rs.DeletionTimestamp != nil }

// surplus is how many of the pods that we see the set has been told to lose.
func (s *set) surplus() int32 { return max(s.pods.Active-s.spec, 0) }

// sure is how many available pods the set is sure to keep if told to have spec
// replicas. It lets go of pods that are not ready first, but which of the ready
// ones it takes is for it to choose.
func (s *set) sure(spec int32) int32 {
	if s.going() {
		return 0
	}
	readyToGo := max(s.pods.Ready-spec, 0)
	return max(s.pods.Available-readyToGo, 0)
}

// idle is how many replicas can be taken from the set without touching an
// available pod: what is missing, not ready, or not yet available for sure.
func (s *set) idle() int32 {
	if s.sure(s.spec) == 0 {
		return s.spec
	}
	return max(s.spec-s.pods.Ready, 0)
}

// fleet is all sets of a Deployment, the oldest first.
type fleet struct {
	sets []*set
	new  *set // the one with the wanted template; nil when there is none
}

// old returns the sets with other templates, the oldest first.
func (f *fleet) old() []*set {
	return slices.DeleteFunc(slices.Clone(f.sets), func(s *set) bool { return s == f.new })
}

// active returns the sets that should have pods.
func (f *fleet) active() []*set {
	return slices.DeleteFunc(slices.Clone(f.sets), func(s *set) bool { return s.spec == 0 || s.going() })
}

// total is how many pods all sets should have.
func (f *fleet) total() (n int32) {
	for _, s := range f.sets {
		n += s.spec
	}
	return n
}

// available is how many available pods are sure to stay.
func (f *fleet) available() (n int32) {
	for _, s := range f.sets {
		n += s.sure(s.spec)
	}
	return n
}

// find chooses the set with the wanted template: the oldest, for there should be
// one, and one that is being deleted only if there is no other.
func (f *fleet) find(deployment *appsv1.Deployment) {
	for _, s := range f.sets {
		if (f.new == nil || f.new.going() && !s.going()) && SameTemplate(&s.rs.Spec.Template, &deployment.Spec.Template) {
			f.new = s
		}
	}
}

func byAge(a, b *set) int {
	if c := a.rs.CreationTimestamp.Compare(b.rs.CreationTimestamp.Time); c != 0 {
		return c
	}
	return cmp.Compare(a.rs.Name, b.rs.Name)
}

func byRevision(a, b *set) int {
	if c := cmp.Compare(revisionOf(a.rs), revisionOf(b.rs)); c != 0 {
		return c
	}
	return byAge(a, b)
}

func replicasOf(rs *appsv1.ReplicaSet) int32 { return ptr.Deref(rs.Spec.Replicas, 1) }
