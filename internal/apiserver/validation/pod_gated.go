package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// gatedUpdate returns the faults of a narrower choice of nodes for a pod that scheduling
// gates still hold: labels and requirements may be added, nothing taken away or changed.
// What it has judged it sets back to the old value in spec. The rules are those of
// https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/#mutable-pod-scheduling-directives.
func gatedUpdate(fld *field.Path, spec, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for key, value := range old.NodeSelector {
		if now, ok := spec.NodeSelector[key]; !ok || now != value {
			errs = append(errs, field.Invalid(fld.Child("nodeSelector"), spec.NodeSelector,
				"only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	spec.NodeSelector = old.NodeSelector

	before, now := nodeAffinityOf(old), nodeAffinityOf(spec)
	if equality.Semantic.DeepEqual(before, now) {
		return errs
	}
	if before != nil && before.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		var required *corev1.NodeSelector
		if now != nil {
			required = now.RequiredDuringSchedulingIgnoredDuringExecution
		}
		at := fld.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
		errs = append(errs, narrowerSelector(at, required, before.RequiredDuringSchedulingIgnoredDuringExecution)...)
	}
	restoreNodeAffinity(spec, old)
	return errs
}

func nodeAffinityOf(spec *corev1.PodSpec) *corev1.NodeAffinity {
	if spec.Affinity == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity
}

// restoreNodeAffinity gives spec the node affinity of old, and no affinity at all where old
// has none and nothing else is in it.
func restoreNodeAffinity(spec, old *corev1.PodSpec) {
	if spec.Affinity == nil {
		if old.Affinity.PodAffinity == nil && old.Affinity.PodAntiAffinity == nil {
			spec.Affinity = old.Affinity
		}
		return
	}
	spec.Affinity.NodeAffinity = nodeAffinityOf(old)
	if old.Affinity == nil && *spec.Affinity == (corev1.Affinity{}) {
		spec.Affinity = nil
	}
}

// narrowerSelector refuses a selector that could match a node that old does not.
func narrowerSelector(fld *field.Path, selector, old *corev1.NodeSelector) field.ErrorList {
	terms := fld.Child("nodeSelectorTerms")
	if selector == nil {
		return field.ErrorList{field.Invalid(terms, selector, "must not be removed")}
	}
	if len(selector.NodeSelectorTerms) != len(old.NodeSelectorTerms) {
		return field.ErrorList{field.Invalid(terms, selector.NodeSelectorTerms,
			"no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	var errs field.ErrorList
	for i, before := range old.NodeSelectorTerms {
		now := selector.NodeSelectorTerms[i]
		isEmpty := len(before.MatchExpressions) == 0 && len(before.MatchFields) == 0
		isNarrower := beginsWith(now.MatchExpressions, before.MatchExpressions) && beginsWith(now.MatchFields, before.MatchFields)
		// A term without requirements matches no node at all, so any in it would widen it.
		if !isNarrower || (isEmpty && len(now.MatchExpressions)+len(now.MatchFields) > 0) {
			errs = append(errs, field.Invalid(terms.Index(i), now, "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

// beginsWith tells whether list is old with perhaps more behind it.
func beginsWith(list, old []corev1.NodeSelectorRequirement) bool {
	return len(list) >= len(old) && equality.Semantic.DeepEqual(list[:len(old)], old)
}
