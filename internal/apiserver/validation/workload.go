package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// replicatedTemplate returns the faults of the template at spec.template of a kind that keeps
// a number of pods running: the selector, nil when it is faulty itself, must select the pods,
// and they must be restarted for ever.
func replicatedTemplate(kind string, template *corev1.PodTemplateSpec, selector labels.Selector) field.ErrorList {
	fld := specPath.Child("template")
	var errs field.ErrorList
	if selector != nil && !selector.Empty() && !selector.Matches(labels.Set(template.Labels)) {
		errs = append(errs, field.Invalid(fld.Child("metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, ValidatePodTemplate(template, fld)...)
	errs = append(errs, choice(fld.Child("spec", "restartPolicy"), template.Spec.RestartPolicy, corev1.RestartPolicyAlways)...)
	if template.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(fld.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported"))
	}
	return errs
}

// replicaCount is a number of pods in a status, under the name of its field.
type replicaCount struct {
	name  string
	count int32
}

// replicaCounts requires counters of pods that are possible: none negative, none above the
// total, none available that is not ready.
func replicaCounts(total, ready, available int32, others ...replicaCount) field.ErrorList {
	counts := append([]replicaCount{{"replicas", total}, {"readyReplicas", ready}, {"availableReplicas", available}}, others...)
	var errs field.ErrorList
	for _, c := range counts {
		fld := statusPath.Child(c.name)
		errs = append(errs, nonNegative(fld, c.count)...)
		if c.count > total {
			errs = append(errs, field.Invalid(fld, c.count, "cannot be greater than status.replicas"))
		}
	}
	if available > ready {
		errs = append(errs, field.Invalid(statusPath.Child("availableReplicas"), available, "cannot be greater than readyReplicas"))
	}
	return errs
}
