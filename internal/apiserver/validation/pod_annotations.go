package validation

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podAnnotations returns the faults of those annotations that have a meaning for pods.
func podAnnotations(fld *field.Path, annotations map[string]string, spec *corev1.PodSpec) field.ErrorList {
	errs := lifeAnnotations(fld, annotations)
	if cost, ok := annotations[corev1.PodDeletionCost]; ok && !isDeletionCost(cost) {
		errs = append(errs, field.Invalid(fld.Key(corev1.PodDeletionCost), cost, "must be a 32bit integer"))
	}
	if value, ok := annotations[corev1.MirrorPodAnnotationKey]; ok && spec.NodeName == "" {
		errs = append(errs, field.Invalid(fld.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set"))
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)
		if !ok {
			continue
		}
		if !hasContainer(spec, name) {
			errs = append(errs, field.Invalid(fld.Key(key), name, "container not found"))
		}
		if value := annotations[key]; !isAppArmorAnnotation(value) {
			errs = append(errs, field.Invalid(fld.Key(key), value, "invalid AppArmor profile name"))
		}
	}
	return errs
}

// isAppArmorAnnotation tells whether value names a profile as the annotations did that the
// field appArmorProfile replaced.
func isAppArmorAnnotation(value string) bool {
	switch value {
	case "", corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return true
	}
	return strings.HasPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
}

// isDeletionCost tells whether text is an integer of 32 bits as the annotation has it:
// no leading plus and no leading zeros, so that each cost is written in one way only.
func isDeletionCost(text string) bool {
	cost, err := strconv.ParseInt(text, 10, 32)
	return err == nil && strconv.FormatInt(cost, 10) == text
}

func hasContainer(spec *corev1.PodSpec, name string) bool {
	is := func(c corev1.Container) bool { return c.Name == name }
	return slices.ContainsFunc(spec.Containers, is) || slices.ContainsFunc(spec.InitContainers, is) ||
		slices.ContainsFunc(spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == name })
}

// podAnnotationsUpdate returns the faults of changes to annotations that must stay.
func podAnnotationsUpdate(fld *field.Path, annotations, old map[string]string) field.ErrorList {
	var errs field.ErrorList
	keys := maps.Clone(old)
	if keys == nil {
		keys = map[string]string{}
	}
	maps.Copy(keys, annotations)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		value, is := annotations[key]
		before, was := old[key]
		if is == was && value == before {
			continue
		}
		switch {
		case strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix):
			errs = append(errs, field.Forbidden(fld.Key(key), "may not add, remove or update AppArmor annotations"))
		case key == corev1.MirrorPodAnnotationKey:
			errs = append(errs, field.Forbidden(fld.Key(key), "may not add, remove or update mirror pod annotation"))
		}
	}
	return errs
}
