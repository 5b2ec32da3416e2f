package replicaset

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// nameAlphabet has the letters and digits that Kubernetes uses in generated
	// names.
	nameAlphabet = "bcdfghjklmnpqrstvwxz2456789"

	// nameSuffix is how many of them end a pod's name.
	nameSuffix = 5

	// maxName bounds a pod's name, so that it can be a host's name.
	maxName = 63
)

// podName returns a name for a pod of a set: the set's, cut if need be, and five
// letters. random returns a number from 0 up to, not including, its argument.
func podName(set string, random func(int) int) string {
	base := set + "-"
	base = base[:min(len(base), maxName-nameSuffix)]
	suffix := make([]byte, nameSuffix)
	for i := range suffix {
		suffix[i] = nameAlphabet[random(len(nameAlphabet))]
	}
	return base + string(suffix)
}

// newPod returns a pod of a set under a name.
func newPod(set *Set, gvk schema.GroupVersionKind, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:            name,
			GenerateName:    set.Object.GetName() + "-",
			Namespace:       set.Object.GetNamespace(),
			Labels:          maps.Clone(set.Template.Labels),
			Annotations:     maps.Clone(set.Template.Annotations),
			Finalizers:      slices.Clone(set.Template.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set.Object, gvk)},
		},
		Spec: *set.Template.Spec.DeepCopy(),
	}
}
