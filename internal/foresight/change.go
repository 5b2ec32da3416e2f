package foresight

import (
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// Changes returns the fields in which two Deployments differ that a user may
// set.
func Changes(before, after *appsv1.Deployment) []v1alpha1.FieldChange {
	b, a := before.DeepCopy(), after.DeepCopy()
	b.Status, a.Status = appsv1.DeploymentStatus{}, appsv1.DeploymentStatus{}
	b.TypeMeta, a.TypeMeta = metav1.TypeMeta{}, metav1.TypeMeta{}
	b.ObjectMeta, a.ObjectMeta = own(b.ObjectMeta), own(a.ObjectMeta)
	return rollout.Differences(b, a)
}

// ObjectChanges is Changes for objects of any kind. Both are of the same type; if
// they are unstructured they are changed. Of a Secret only the names of what
// changes are told.
func ObjectChanges(before, after runtime.Object) []v1alpha1.FieldChange {
	from, to := bare(before), bare(after)
	changes := rollout.Differences(from, to)
	if _, secret := before.(*corev1.Secret); secret {
		for i := range changes {
			hide(&changes[i])
		}
	}
	return changes
}

// hide takes the values from a change.
func hide(c *v1alpha1.FieldChange) {
	if strings.HasPrefix(c.Path, "data") {
		if c.From != "" {
			c.From = "(hidden)"
		}
		if c.To != "" {
			c.To = "(hidden, other)"
		}
	}
}

// bare is a copy of an object without what the API server keeps in it.
func bare(object runtime.Object) any {
	if u, ok := object.(*unstructured.Unstructured); ok {
		u = u.DeepCopy()
		meta := own(metav1.ObjectMeta{Labels: u.GetLabels(), Annotations: u.GetAnnotations()})
		delete(u.Object, "status")
		delete(u.Object, "metadata")
		u.SetLabels(meta.Labels)
		u.SetAnnotations(meta.Annotations)
		return u.Object
	}
	object = object.DeepCopyObject()
	object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	if o, ok := object.(metav1.ObjectMetaAccessor); ok {
		if meta, ok := o.GetObjectMeta().(*metav1.ObjectMeta); ok {
			*meta = own(*meta)
		}
	}
	return object
}

// serverAnnotations are set by programs, as a consequence of the change.
var serverAnnotations = []string{
	corev1.LastAppliedConfigAnnotation, rollout.AnnotationRevision,
	v1alpha1.AnnotationChangedBy, v1alpha1.AnnotationNotedCause,
	v1alpha1.AnnotationFailedRevision, v1alpha1.AnnotationFailedBecause,
}

// own is the part of an object's metadata that is its user's.
func own(meta metav1.ObjectMeta) metav1.ObjectMeta {
	annotations := maps.Clone(meta.Annotations)
	maps.DeleteFunc(annotations, func(key, _ string) bool { return slices.Contains(serverAnnotations, key) })
	return metav1.ObjectMeta{Labels: meta.Labels, Annotations: annotations, Finalizers: meta.Finalizers}
}
