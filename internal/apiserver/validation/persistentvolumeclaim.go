package validation

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func persistentVolumeClaimCreate(c *corev1.PersistentVolumeClaim) field.ErrorList {
	return append(namespaced(&c.ObjectMeta, subdomainName), claimSpec(&c.Spec, specPath)...)
}

// persistentVolumeClaimUpdate returns the faults of a claim as the replacement of old. What is
// claimed stays, but for three things: the volume may be filled in once; so may the class, while
// there is no volume; a claim that is bound may ask for more.
func persistentVolumeClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := metadataUpdate(&c.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, claimSpec(&c.Spec, specPath)...)
	rest := c.Spec.DeepCopy()
	if old.Spec.VolumeName == "" {
		rest.VolumeName = ""
	}
	if old.Spec.StorageClassName == nil && old.Spec.VolumeName == "" && old.Annotations[corev1.BetaStorageClassAnnotation] == "" {
		rest.StorageClassName = nil
	}
	if c.Annotations[corev1.BetaStorageClassAnnotation] != old.Annotations[corev1.BetaStorageClassAnnotation] {
		errs = append(errs, field.Invalid(metadataPath.Child("annotations").Key(corev1.BetaStorageClassAnnotation),
			c.Annotations[corev1.BetaStorageClassAnnotation], "field is immutable"))
	}
	size, before, has := requestedStorage(c), requestedStorage(old), old.Status.Capacity[corev1.ResourceStorage]
	if old.Status.Phase == corev1.ClaimBound && rest.Resources.Requests != nil {
		rest.Resources.Requests[corev1.ResourceStorage] = before
		rest.VolumeAttributesClassName = old.Spec.VolumeAttributesClassName
	}
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf(
			"spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%s", changes(&old.Spec, rest))))
	}
	if size.Cmp(before) < 0 && size.Cmp(has) <= 0 {
		errs = append(errs, field.Forbidden(specPath.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	return append(errs, immutable(field.NewPath("volumeMode"), c.Spec.VolumeMode, old.Spec.VolumeMode)...)
}

func requestedStorage(c *corev1.PersistentVolumeClaim) resource.Quantity {
	return c.Spec.Resources.Requests[corev1.ResourceStorage]
}

// persistentVolumeClaimStatusUpdate returns the faults of what a claim is said to have.
func persistentVolumeClaimStatusUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := metadataUpdate(&c.ObjectMeta, &old.ObjectMeta)
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"capacity", c.Status.Capacity}, {"allocatedResources", c.Status.AllocatedResources}} {
		for _, name := range sets.List(sets.KeySet(list.of)) {
			errs = append(errs, nonNegativeQuantity(statusPath.Child(list.name).Key(string(name)), list.of[name])...)
		}
	}
	return errs
}
