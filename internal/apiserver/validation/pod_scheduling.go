package validation

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podScheduling returns the faults of what decides where and when a pod is put on a node.
func podScheduling(fld *field.Path, facts podFacts) field.ErrorList {
	spec := facts.spec
	errs := metav1validation.ValidateLabels(spec.NodeSelector, fld.Child("nodeSelector"))
	errs = append(errs, affinity(fld.Child("affinity"), spec.Affinity)...)
	errs = append(errs, tolerations(fld.Child("tolerations"), spec.Tolerations)...)
	errs = append(errs, spreadConstraints(fld.Child("topologySpreadConstraints"), spec.TopologySpreadConstraints)...)
	if spec.PreemptionPolicy != nil {
		errs = append(errs, requireChoice(fld.Child("preemptionPolicy"), *spec.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	gates := sets.New[string]()
	for i, gate := range spec.SchedulingGates {
		at := fld.Child("schedulingGates").Index(i)
		errs = append(errs, invalidFor(at, gate.Name, validation.IsQualifiedName(gate.Name))...)
		if gates.Has(gate.Name) {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		gates.Insert(gate.Name)
	}
	if group := spec.SchedulingGroup; group != nil {
		at := fld.Child("schedulingGroup", "podGroupName")
		if group.PodGroupName == nil {
			errs = append(errs, field.Required(at, "must specify one of: `podGroupName`"))
		} else {
			errs = append(errs, invalidFor(at, *group.PodGroupName, isName(*group.PodGroupName))...)
		}
	}
	return errs
}

// tolerations returns the faults of the taints of nodes that a pod puts up with.
func tolerations(fld *field.Path, list []corev1.Toleration) field.ErrorList {
	var errs field.ErrorList
	for i, t := range list {
		at := fld.Index(i)
		if t.Key != "" {
			errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		} else if t.Operator != corev1.TolerationOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), t.Operator,
				"operator must be Exists when `key` is empty, which means \"match all values and all keys\""))
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			errs = append(errs, field.Invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
		}
		errs = append(errs, tolerationOperator(at, t)...)
		if t.Effect != "" {
			errs = append(errs, choice(at.Child("effect"), t.Effect,
				corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)...)
		}
	}
	return errs
}

// tolerationOperator returns the faults of a toleration's operator and of the value that it
// is to be used with. No operator means Equal.
func tolerationOperator(fld *field.Path, t corev1.Toleration) field.ErrorList {
	switch t.Operator {
	case "", corev1.TolerationOpEqual:
		if messages := validation.IsValidLabelValue(t.Value); len(messages) > 0 {
			return field.ErrorList{field.Invalid(fld.Child("operator"), t.Value, strings.Join(messages, ";"))}
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			return field.ErrorList{field.Invalid(fld.Child("operator"), t, "value must be empty when `operator` is 'Exists'")}
		}
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		if number, err := strconv.ParseInt(t.Value, 10, 64); err != nil || strconv.FormatInt(number, 10) != t.Value {
			return field.ErrorList{field.Invalid(fld.Child("value"), t.Value, "must be an integer of 64 bits in decimal notation when `operator` is 'Lt' or 'Gt'")}
		}
	default:
		return choice(fld.Child("operator"), t.Operator,
			corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpGt, corev1.TolerationOpLt)
	}
	return nil
}

// spreadConstraints returns the faults of the rules by which pods are spread over nodes.
func spreadConstraints(fld *field.Path, list []corev1.TopologySpreadConstraint) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, c := range list {
		at := fld.Index(i)
		if c.MaxSkew <= 0 {
			errs = append(errs, field.Invalid(at.Child("maxSkew"), c.MaxSkew, "must be greater than zero"))
		}
		errs = append(errs, topologyKey(at.Child("topologyKey"), c.TopologyKey)...)
		errs = append(errs, choice(at.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)...)
		pair := fmt.Sprintf("{%s, %s}", c.TopologyKey, c.WhenUnsatisfiable)
		if seen.Has(pair) {
			errs = append(errs, field.Duplicate(at.Child("{topologyKey, whenUnsatisfiable}"), pair))
		}
		seen.Insert(pair)
		if c.MinDomains != nil {
			errs = append(errs, minDomains(at.Child("minDomains"), *c.MinDomains, c.WhenUnsatisfiable)...)
		}
		errs = append(errs, optionalChoice(at.Child("nodeAffinityPolicy"), c.NodeAffinityPolicy,
			corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)...)
		errs = append(errs, optionalChoice(at.Child("nodeTaintsPolicy"), c.NodeTaintsPolicy,
			corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)...)
		errs = append(errs, matchLabelKeys(at.Child("matchLabelKeys"), c.MatchLabelKeys, "matchLabelKeys", c.LabelSelector)...)
		errs = append(errs, selector(at.Child("labelSelector"), c.LabelSelector)...)
	}
	return errs
}

func minDomains(fld *field.Path, value int32, action corev1.UnsatisfiableConstraintAction) field.ErrorList {
	var errs field.ErrorList
	if value <= 0 {
		errs = append(errs, field.Invalid(fld, value, "must be greater than 0"))
	}
	if action != corev1.DoNotSchedule {
		errs = append(errs, field.Invalid(fld, value,
			fmt.Sprintf("can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, action)))
	}
	return errs
}
