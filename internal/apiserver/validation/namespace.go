package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func namespaceCreate(n *corev1.Namespace) field.ErrorList {
	errs := append(clusterWide(&n.ObjectMeta, labelName), failurePolicy(&n.ObjectMeta, nil)...)
	return append(errs, namespaceFinalizers(n)...)
}

// namespaceUpdate serves the finalize subresource too: it may only take finalizers away,
// and what is left was valid.
func namespaceUpdate(n, old *corev1.Namespace) field.ErrorList {
	errs := append(metadataUpdate(&n.ObjectMeta, &old.ObjectMeta), failurePolicy(&n.ObjectMeta, &old.ObjectMeta)...)
	return append(errs, namespaceFinalizers(n)...)
}

func namespaceFinalizers(n *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, finalizer := range n.Spec.Finalizers {
		fld, name := specPath.Child("finalizers").Index(i), string(finalizer)
		errs = append(errs, invalidFor(fld, name, validation.IsQualifiedName(name))...)
		errs = append(errs, ownedFinalizer(fld, name)...)
	}
	return errs
}

// namespaceStatusUpdate makes the phase follow the deletion, never lead it.
func namespaceStatusUpdate(n, old *corev1.Namespace) field.ErrorList {
	errs := metadataUpdate(&n.ObjectMeta, &old.ObjectMeta)
	fld, phase := statusPath.Child("phase"), n.Status.Phase
	switch {
	case n.DeletionTimestamp.IsZero() && phase != corev1.NamespaceActive:
		errs = append(errs, field.Invalid(fld, phase, "may only be 'Active' if `deletionTimestamp` is empty"))
	case !n.DeletionTimestamp.IsZero() && phase != corev1.NamespaceTerminating:
		errs = append(errs, field.Invalid(fld, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"))
	}
	return errs
}
