package apiserver

import (
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// recordCreate forgets who set which field, unless the record is applied. The
// library follows that only for objects that have it, and begins when somebody
// applies one; to find out what changed in the timelines of 500 pods takes longer
// than all else about writing them.
func recordCreate(_ context.Context, obj runtime.Object) {
	r := obj.(*v1alpha1.RolloutRecord)
	applied := func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Operation == metav1.ManagedFieldsOperationApply
	}
	if !slices.ContainsFunc(r.ManagedFields, applied) {
		r.ManagedFields = nil
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
