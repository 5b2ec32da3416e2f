package validation

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func disruptionBudgetCreate(b *policyv1.PodDisruptionBudget) field.ErrorList {
	return append(namespaced(&b.ObjectMeta, subdomainName), disruptionBudgetRules(&b.Spec)...)
}

func disruptionBudgetUpdate(b, old *policyv1.PodDisruptionBudget) field.ErrorList {
	return append(metadataUpdate(&b.ObjectMeta, &old.ObjectMeta), disruptionBudgetRules(&b.Spec)...)
}

func disruptionBudgetRules(spec *policyv1.PodDisruptionBudgetSpec) field.ErrorList {
	var errs field.ErrorList
	if spec.MinAvailable != nil && spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(specPath, *spec, "minAvailable and maxUnavailable cannot be both set"))
	}
	errs = append(errs, podsOrShare(specPath.Child("minAvailable"), spec.MinAvailable)...)
	errs = append(errs, podsOrShare(specPath.Child("maxUnavailable"), spec.MaxUnavailable)...)
	errs = append(errs, optionalChoice(specPath.Child("unhealthyPodEvictionPolicy"), spec.UnhealthyPodEvictionPolicy,
		policyv1.AlwaysAllow, policyv1.IfHealthyBudget)...)
	return append(errs, selector(specPath.Child("selector"), spec.Selector)...)
}

// podsOrShare refuses what is neither a number of pods nor a share of them.
func podsOrShare(fld *field.Path, value *intstr.IntOrString) field.ErrorList {
	if value == nil {
		return nil
	}
	errs := countOrPercent(fld, value)
	if percent, is := percentOf(value); is && percent > 100 {
		errs = append(errs, field.Invalid(fld, value, "must not be greater than 100%"))
	}
	return errs
}

func disruptionBudgetStatusUpdate(b, old *policyv1.PodDisruptionBudget) field.ErrorList {
	errs := metadataUpdate(&b.ObjectMeta, &old.ObjectMeta)
	status := field.NewPath("status")
	for _, count := range []struct {
		name  string
		value int32
	}{
		{"disruptionsAllowed", b.Status.DisruptionsAllowed}, {"currentHealthy", b.Status.CurrentHealthy},
		{"desiredHealthy", b.Status.DesiredHealthy}, {"expectedPods", b.Status.ExpectedPods},
	} {
		errs = append(errs, nonNegative(status.Child(count.name), count.value)...)
	}
	return errs
}
