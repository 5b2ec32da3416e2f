package validation

import (
	"slices"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The paths under which every object has its parts.
var (
	metadataPath = field.NewPath("metadata")
	specPath     = field.NewPath("spec")
	statusPath   = field.NewPath("status")
)

// The rules for names. Each kind has one.
var (
	subdomainName apivalidation.ValidateNameFunc = apivalidation.NameIsDNSSubdomain
	labelName     apivalidation.ValidateNameFunc = apivalidation.NameIsDNSLabel
	// pathName allows whatever can be one element of a URL's path.
	pathName apivalidation.ValidateNameFunc = pathvalidation.ValidatePathSegmentName
)

// namespaced returns the faults of the metadata of an object inside of a namespace.
func namespaced(meta *metav1.ObjectMeta, name apivalidation.ValidateNameFunc) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(meta, true, name, metadataPath)
	return append(errs, metaFinalizers(meta)...)
}

// clusterWide returns the faults of the metadata of an object outside of all namespaces.
func clusterWide(meta *metav1.ObjectMeta, name apivalidation.ValidateNameFunc) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(meta, false, name, metadataPath)
	return append(errs, metaFinalizers(meta)...)
}

// metadataUpdate returns the faults of metadata as the replacement of old.
func metadataUpdate(meta, old *metav1.ObjectMeta) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaUpdate(meta, old, metadataPath)
	return append(errs, metaFinalizers(meta)...)
}

// The finalizers that need no domain, because the API machinery defines them.
var standardFinalizers = []string{"kubernetes", metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents}

// metaFinalizers refuses a finalizer that has no domain and is not a standard one.
func metaFinalizers(meta *metav1.ObjectMeta) field.ErrorList {
	var errs field.ErrorList
	for i, finalizer := range meta.Finalizers {
		errs = append(errs, ownedFinalizer(metadataPath.Child("finalizers").Index(i), finalizer)...)
	}
	return errs
}

func ownedFinalizer(fld *field.Path, finalizer string) field.ErrorList {
	if strings.Contains(finalizer, "/") || slices.Contains(standardFinalizers, finalizer) {
		return nil
	}
	return field.ErrorList{field.Invalid(fld, finalizer, "name is neither a standard finalizer name nor is it fully qualified")}
}

// immutable refuses any difference between the new and the old value of a field.
func immutable(fld *field.Path, value, old any) field.ErrorList {
	return apivalidation.ValidateImmutableField(value, old, fld)
}

// nonNegative refuses a number below zero.
func nonNegative[T int32 | int64](fld *field.Path, value T) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(value), fld)
}

// optionalNonNegative refuses a number that is set and below zero.
func optionalNonNegative(fld *field.Path, value *int32) field.ErrorList {
	if value == nil {
		return nil
	}
	return nonNegative(fld, *value)
}

// workloadSelector returns the selector of a workload's pods, nil when it cannot select,
// and its faults: it must be set, well-formed and not select everything.
func workloadSelector(kind string, fld *field.Path, selector *metav1.LabelSelector) (labels.Selector, field.ErrorList) {
	if selector == nil {
		return labels.Nothing(), field.ErrorList{field.Required(fld, "")}
	}
	errs := metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, fld)
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(fld, selector, "empty selector is invalid for "+kind))
	}
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, append(errs, field.Invalid(fld, selector, "invalid label selector"))
	}
	return compiled, errs
}

// qualifiedName requires a name with an optional domain before it, as label keys have.
func qualifiedName(fld *field.Path, name string) field.ErrorList {
	return invalidFor(fld, name, validation.IsQualifiedName(name))
}
