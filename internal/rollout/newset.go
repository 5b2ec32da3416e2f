package rollout

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// NewSet returns the one of a Deployment's sets that has the wanted template, nil
// when there is none: the oldest, and one that is being deleted only if there is
// no other. The sets are those that the Deployment controls.
func NewSet(deployment *appsv1.Deployment, sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	var f fleet
	for _, rs := range sets {
		f.sets = append(f.sets, &set{rs: rs})
	}
	slices.SortFunc(f.sets, byAge)
	f.find(deployment)
	if f.new == nil {
		return nil
	}
	return f.new.rs
}

// RevisionOf returns the revision of a set, 0 when it has none.
func RevisionOf(rs *appsv1.ReplicaSet) int64 { return revisionOf(rs) }
