package deployment

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/owned"
)

// unlisted returns the sets of a Deployment that this process has written and
// that are not in a list from the cache: the cache is late, or they are gone.
func unlisted(written *owned.Written, deployment types.UID, listed []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	written.Each(func(object client.Object) {
		rs, is := object.(*appsv1.ReplicaSet)
		if owner := metav1.GetControllerOf(object); !is || owner == nil || owner.UID != deployment {
			return
		}
		if !slices.ContainsFunc(listed, func(other *appsv1.ReplicaSet) bool { return other.UID == rs.UID }) {
			out = append(out, rs)
		}
	})
	return out
}
