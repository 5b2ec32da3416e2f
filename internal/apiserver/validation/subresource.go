package validation

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// scaleCreate returns the faults of a number of replicas sent to a scale subresource.
func scaleCreate(s *autoscalingv1.Scale) field.ErrorList {
	errs := namespaced(&s.ObjectMeta, subdomainName)
	if s.Spec.Replicas < 0 {
		errs = append(errs, field.Invalid(specPath.Child("replicas"), s.Spec.Replicas, "must be greater than or equal to 0"))
	}
	return errs
}

// bindingCreate returns the faults of a decision of a scheduler: pods run on Nodes only.
func bindingCreate(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	if kind := b.Target.Kind; kind != "" && kind != "Node" {
		errs = append(errs, field.NotSupported(field.NewPath("target", "kind"), kind, []string{"Node", "<empty>"}))
	}
	return append(errs, requireFormat(field.NewPath("target", "name"), b.Target.Name, isNodeName)...)
}

func evictionCreate(e *policyv1.Eviction) field.ErrorList {
	if e.DeleteOptions == nil {
		return nil
	}
	return metav1validation.ValidateDeleteOptions(e.DeleteOptions)
}
