package rolloutview

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/internal/rollout"
)

// OfStatefulSet returns the facts of a StatefulSet, without records. Revisions and
// pods of others are left out.
func OfStatefulSet(set *appsv1.StatefulSet, revisions []appsv1.ControllerRevision, pods []corev1.Pod) Facts {
	view := rollout.ViewOf(set, owned(set, revisions), owned(set, pods))
	return Facts{Deployment: view.Deployment, StatefulSet: set, Sets: values(view.Sets), Pods: values(view.Pods)}
}

// owned returns those objects that a set controls.
func owned[T any, P interface {
	*T
	metav1.Object
}](set *appsv1.StatefulSet, objects []T) (out []*T) {
	for i := range objects {
		if metav1.IsControlledBy(P(&objects[i]), set) {
			out = append(out, &objects[i])
		}
	}
	return out
}

func values[T any](pointers []*T) []T {
	out := make([]T, len(pointers))
	for i, p := range pointers {
		out[i] = *p
	}
	return out
}
