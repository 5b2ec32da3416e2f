package validation

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The bounds of a class's parameters: their number, and their size together in bytes.
const (
	maxParameters     = 512
	maxParametersSize = 256 << 10
)

func storageClassCreate(c *storagev1.StorageClass) field.ErrorList {
	errs := clusterWide(&c.ObjectMeta, subdomainName)
	errs = append(errs, requireFormat(field.NewPath("provisioner"), c.Provisioner,
		func(name string) []string { return validation.IsQualifiedName(strings.ToLower(name)) })...)
	errs = append(errs, parameters(field.NewPath("parameters"), c.Parameters)...)
	errs = append(errs, optionalChoice(field.NewPath("reclaimPolicy"), c.ReclaimPolicy,
		corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	binding := field.NewPath("volumeBindingMode")
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(binding, ""))
	} else {
		errs = append(errs, choice(binding, *c.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return append(errs, topologies(field.NewPath("allowedTopologies"), c.AllowedTopologies)...)
}

// storageClassUpdate returns the faults of a class as the replacement of old. How volumes are
// made does not change under those who have asked for them.
func storageClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := metadataUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if !maps.Equal(c.Parameters, old.Parameters) {
		errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	if c.Provisioner != old.Provisioner {
		errs = append(errs, field.Forbidden(field.NewPath("provisioner"), "updates to provisioner are forbidden."))
	}
	if c.ReclaimPolicy != nil && old.ReclaimPolicy != nil && *c.ReclaimPolicy != *old.ReclaimPolicy {
		errs = append(errs, field.Forbidden(field.NewPath("reclaimPolicy"), "updates to reclaimPolicy are forbidden."))
	}
	errs = append(errs, immutable(field.NewPath("volumeBindingMode"), c.VolumeBindingMode, old.VolumeBindingMode)...)
	return append(errs, topologies(field.NewPath("allowedTopologies"), c.AllowedTopologies)...)
}

func parameters(fld *field.Path, list map[string]string) field.ErrorList {
	if len(list) > maxParameters {
		return field.ErrorList{field.TooLong(fld, "", maxParameters)}
	}
	var errs field.ErrorList
	size := 0
	for key, value := range list {
		if key == "" {
			errs = append(errs, field.Invalid(fld, key, "field can not be empty."))
		}
		size += len(key) + len(value)
	}
	if size > maxParametersSize {
		errs = append(errs, field.TooLong(fld, "", maxParametersSize))
	}
	return errs
}

// topologies returns the faults of where volumes of a class may be made.
func topologies(fld *field.Path, terms []corev1.TopologySelectorTerm) field.ErrorList {
	var errs field.ErrorList
	for i, term := range terms {
		keys := sets.New[string]()
		for j, expression := range term.MatchLabelExpressions {
			at := fld.Index(i).Child("matchLabelExpressions").Index(j)
			if keys.Has(expression.Key) {
				errs = append(errs, field.Duplicate(at.Child("key"), expression.Key))
			}
			keys.Insert(expression.Key)
			errs = append(errs, metav1validation.ValidateLabelName(expression.Key, at.Child("key"))...)
			if len(expression.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			values := sets.New[string]()
			for k, value := range expression.Values {
				if values.Has(value) {
					errs = append(errs, field.Duplicate(at.Child("values").Index(k), value))
				}
				values.Insert(value)
				errs = append(errs, invalidFor(at.Child("values").Index(k), value, validation.IsValidLabelValue(value))...)
			}
		}
	}
	return errs
}
