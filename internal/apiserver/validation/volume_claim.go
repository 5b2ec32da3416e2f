package validation

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ephemeralVolume returns the faults of a volume whose claim is made with the pod.
func ephemeralVolume(fld *field.Path, v *corev1.EphemeralVolumeSource) field.ErrorList {
	template := v.VolumeClaimTemplate
	if template == nil {
		return field.ErrorList{field.Required(fld.Child("volumeClaimTemplate"), "")}
	}
	fld = fld.Child("volumeClaimTemplate")
	errs := claimTemplateMetadata(fld.Child("metadata"), &template.ObjectMeta)
	return append(errs, claimSpec(&template.Spec, fld.Child("spec"))...)
}

// claimTemplateMetadata returns the faults of metadata of which labels and annotations only
// are taken.
func claimTemplateMetadata(fld *field.Path, meta *metav1.ObjectMeta) field.ErrorList {
	errs := apivalidation.ValidateAnnotations(meta.Annotations, fld.Child("annotations"))
	errs = append(errs, metav1validation.ValidateLabels(meta.Labels, fld.Child("labels"))...)
	return append(errs, forbidSet(fld, "cannot be set for an ephemeral volume", map[string]bool{
		"name":                       meta.Name != "",
		"generateName":               meta.GenerateName != "",
		"namespace":                  meta.Namespace != "",
		"selfLink":                   meta.SelfLink != "",
		"uid":                        meta.UID != "",
		"resourceVersion":            meta.ResourceVersion != "",
		"generation":                 meta.Generation != 0,
		"creationTimestamp":          !meta.CreationTimestamp.IsZero(),
		"deletionTimestamp":          meta.DeletionTimestamp != nil,
		"deletionGracePeriodSeconds": meta.DeletionGracePeriodSeconds != nil,
		"ownerReferences":            meta.OwnerReferences != nil,
		"finalizers":                 meta.Finalizers != nil,
		"managedFields":              meta.ManagedFields != nil,
	})...)
}

// claimSpec returns the faults of a claim for storage, which stands
// at fld: its access modes, size, class, and where its first content comes from
// (https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/).
func claimSpec(spec *corev1.PersistentVolumeClaimSpec, fld *field.Path) field.ErrorList {
	errs := accessModes(fld.Child("accessModes"), spec.AccessModes)
	errs = append(errs, selector(fld.Child("selector"), spec.Selector)...)
	storage := fld.Child("resources").Key(string(corev1.ResourceStorage))
	if size, ok := spec.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(storage, ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(storage, size.String(), "must be greater than zero"))
	}
	if limit, ok := spec.Resources.Limits[corev1.ResourceStorage]; ok {
		errs = append(errs, nonNegativeQuantity(fld.Child("resources", "limits").Key(string(corev1.ResourceStorage)), limit)...)
	}
	// An empty class asks for volumes without a class.
	if class := spec.StorageClassName; class != nil {
		errs = append(errs, optionalFormat(fld.Child("storageClassName"), *class, isName)...)
	}
	if class := spec.VolumeAttributesClassName; class != nil {
		errs = append(errs, optionalFormat(fld.Child("volumeAttributesClassName"), *class, isName)...)
	}
	errs = append(errs, optionalChoice(fld.Child("volumeMode"), spec.VolumeMode,
		corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	return append(errs, claimContent(fld, spec)...)
}

func accessModes(fld *field.Path, modes []corev1.PersistentVolumeAccessMode) field.ErrorList {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(fld, "at least 1 access mode is required")}
	}
	var errs field.ErrorList
	for i, mode := range modes {
		errs = append(errs, choice(fld.Index(i), mode,
			corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)...)
	}
	if set := sets.New(modes...); set.Has(corev1.ReadWriteOncePod) && set.Len() > 1 {
		errs = append(errs, field.Forbidden(fld, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// claimContent returns the faults of the two ways to say what a new volume contains.
func claimContent(fld *field.Path, spec *corev1.PersistentVolumeClaimSpec) field.ErrorList {
	var errs field.ErrorList
	source, ref := spec.DataSource, spec.DataSourceRef
	if source != nil {
		errs = append(errs, contentObject(fld.Child("dataSource"), source.APIGroup, source.Kind, source.Name)...)
	}
	if ref != nil {
		errs = append(errs, contentObject(fld.Child("dataSourceRef"), ref.APIGroup, ref.Kind, ref.Name)...)
	}
	switch {
	case ref != nil && ref.Namespace != nil && *ref.Namespace != "":
		if source != nil {
			errs = append(errs, field.Invalid(fld.Child("dataSource"), source, "may not be specified when dataSourceRef.namespace is specified"))
		}
		errs = append(errs, invalidFor(fld.Child("dataSourceRef", "namespace"), *ref.Namespace, validation.IsDNS1123Label(*ref.Namespace))...)
	case source != nil && ref != nil && !sameContent(source, ref):
		errs = append(errs, field.Invalid(fld.Child("dataSource"), source, "must match dataSourceRef"))
	}
	return errs
}

func sameContent(source *corev1.TypedLocalObjectReference, ref *corev1.TypedObjectReference) bool {
	return groupOf(source.APIGroup) == groupOf(ref.APIGroup) && source.Kind == ref.Kind && source.Name == ref.Name
}

func groupOf(group *string) string {
	if group == nil {
		return ""
	}
	return *group
}

// contentObject returns the faults of a reference to what fills a volume: of the core group
// only another claim can.
func contentObject(fld *field.Path, group *string, kind, name string) field.ErrorList {
	errs := requireTexts(fld, "name", name, "kind", kind)
	if groupOf(group) == "" && kind != "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(fld, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	if groupOf(group) != "" {
		errs = append(errs, invalidFor(fld.Child("apiGroup"), *group, isName(*group))...)
	}
	return errs
}
