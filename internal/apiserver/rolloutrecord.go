package apiserver

import (
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"windlass.dev/windlass/api/v1alpha1"
)

func recordFields(obj runtime.Object) fields.Set {
	r := obj.(*v1alpha1.RolloutRecord)
	return fields.Set{
		"spec.target.kind": r.Spec.Target.Kind,
		"spec.target.name": r.Spec.Target.Name,
		"status.phase":     string(r.Status.Phase),
	}
}

// recordStatus leaves the metadata as it is, as for any kind that is not
// Kubernetes' own.
func recordStatus(obj, old runtime.Object) {
	r, before := obj.(*v1alpha1.RolloutRecord), old.(*v1alpha1.RolloutRecord)
	managed, version := r.ManagedFields, r.ResourceVersion
	r.ObjectMeta = *before.ObjectMeta.DeepCopy()
	r.ManagedFields, r.ResourceVersion = managed, version
}
