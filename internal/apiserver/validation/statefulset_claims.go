package validation

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// claimTemplates returns the faults of the claims that a StatefulSet makes for
// each of its pods. They cannot be mended later, for the field cannot change.
func claimTemplates(spec *appsv1.StatefulSetSpec) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i := range spec.VolumeClaimTemplates {
		fld := specPath.Child("volumeClaimTemplates").Index(i)
		template := &spec.VolumeClaimTemplates[i]
		name := fld.Child("metadata", "name")
		switch {
		case template.Name == "":
			errs = append(errs, field.Required(name, "it begins the claims' names and is the name of the pods' volume"))
		case names.Has(template.Name):
			errs = append(errs, field.Duplicate(name, template.Name))
		default:
			errs = append(errs, invalidFor(name, template.Name, validation.IsDNS1123Label(template.Name))...)
		}
		names.Insert(template.Name)
		errs = append(errs, apivalidation.ValidateAnnotations(template.Annotations, fld.Child("metadata", "annotations"))...)
		errs = append(errs, metav1validation.ValidateLabels(template.Labels, fld.Child("metadata", "labels"))...)
		errs = append(errs, claimSpec(&template.Spec, fld.Child("spec"))...)
	}
	return errs
}

// mountClaims gives a pod the volumes that a StatefulSet's claims become, so that
// its mounts are checked as those of the pods will be. A claim goes before a
// volume of its name.
func mountClaims(pod *corev1.PodSpec, templates []corev1.PersistentVolumeClaim) {
	for i := range templates {
		name := templates[i].Name
		if len(validation.IsDNS1123Label(name)) > 0 {
			continue // it is refused as such
		}
		pod.Volumes = slices.DeleteFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == name })
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}})
	}
}
