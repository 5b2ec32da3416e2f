package validation

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func deploymentCreate(d *appsv1.Deployment) field.ErrorList {
	errs := append(namespaced(&d.ObjectMeta, subdomainName), failurePolicy(&d.ObjectMeta, nil)...)
	return append(errs, deploymentRules(&d.Spec)...)
}

func deploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	errs := metadataUpdate(&d.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, failurePolicy(&d.ObjectMeta, &old.ObjectMeta)...)
	errs = append(errs, deploymentRules(&d.Spec)...)
	return append(errs, immutable(specPath.Child("selector"), d.Spec.Selector, old.Spec.Selector)...)
}

func deploymentRules(spec *appsv1.DeploymentSpec) field.ErrorList {
	errs := optionalNonNegative(specPath.Child("replicas"), spec.Replicas)
	selector, faults := workloadSelector("deployment", specPath.Child("selector"), spec.Selector)
	errs = append(errs, faults...)
	errs = append(errs, replicatedTemplate("ReplicaSet", &spec.Template, selector)...)
	errs = append(errs, deploymentStrategy(&spec.Strategy)...)
	errs = append(errs, nonNegative(specPath.Child("minReadySeconds"), spec.MinReadySeconds)...)
	errs = append(errs, optionalNonNegative(specPath.Child("revisionHistoryLimit"), spec.RevisionHistoryLimit)...)
	fld := specPath.Child("progressDeadlineSeconds")
	errs = append(errs, optionalNonNegative(fld, spec.ProgressDeadlineSeconds)...)
	if deadline := spec.ProgressDeadlineSeconds; deadline != nil && *deadline <= spec.MinReadySeconds {
		errs = append(errs, field.Invalid(fld, *deadline, "must be greater than minReadySeconds"))
	}
	return errs
}

func deploymentStrategy(strategy *appsv1.DeploymentStrategy) field.ErrorList {
	fld := specPath.Child("strategy")
	switch strategy.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if strategy.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(fld.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")}
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if strategy.RollingUpdate == nil {
			return field.ErrorList{field.Required(fld.Child("rollingUpdate"), "this should be defaulted and never be nil")}
		}
		return rollingUpdate(fld.Child("rollingUpdate"), strategy.RollingUpdate)
	default:
		return choice(fld.Child("type"), strategy.Type, appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType)
	}
	return nil
}

// rollingUpdate requires room to move: a pod more or a pod fewer than wanted.
func rollingUpdate(fld *field.Path, rolling *appsv1.RollingUpdateDeployment) field.ErrorList {
	unavailable, surge := fld.Child("maxUnavailable"), fld.Child("maxSurge")
	errs := countOrPercent(unavailable, rolling.MaxUnavailable)
	errs = append(errs, countOrPercent(surge, rolling.MaxSurge)...)
	if len(errs) == 0 && isNone(rolling.MaxUnavailable) && isNone(rolling.MaxSurge) {
		errs = append(errs, field.Invalid(unavailable, rolling.MaxUnavailable, "may not be 0 when `maxSurge` is 0"))
	}
	if percent, is := percentOf(rolling.MaxUnavailable); is && percent > 100 {
		errs = append(errs, field.Invalid(unavailable, rolling.MaxUnavailable, "must not be greater than 100%"))
	}
	return errs
}

// countOrPercent requires a number of at least zero, or a percentage.
func countOrPercent(fld *field.Path, value *intstr.IntOrString) field.ErrorList {
	switch {
	case value == nil:
		return field.ErrorList{field.Required(fld, "")}
	case value.Type == intstr.String:
		return invalidFor(fld, value, validation.IsValidPercent(value.StrVal))
	}
	return nonNegative(fld, value.IntVal)
}

// percentOf returns the percentage that a value states, and whether it states one.
func percentOf(value *intstr.IntOrString) (percent int, is bool) {
	if value == nil || value.Type != intstr.String {
		return 0, false
	}
	percent, err := intstr.GetScaledValueFromIntOrPercent(value, 100, false)
	return percent, err == nil
}

// isNone reports whether a valid value is zero pods of any number.
func isNone(value *intstr.IntOrString) bool {
	percent, is := percentOf(value)
	return is && percent == 0 || !is && value.IntVal == 0
}

func deploymentStatusUpdate(d, old *appsv1.Deployment) field.ErrorList {
	errs := metadataUpdate(&d.ObjectMeta, &old.ObjectMeta)
	status := &d.Status
	errs = append(errs, nonNegative(statusPath.Child("observedGeneration"), status.ObservedGeneration)...)
	errs = append(errs, nonNegative(statusPath.Child("unavailableReplicas"), status.UnavailableReplicas)...)
	errs = append(errs, optionalNonNegative(statusPath.Child("terminatingReplicas"), status.TerminatingReplicas)...)
	errs = append(errs, replicaCounts(status.Replicas, status.ReadyReplicas, status.AvailableReplicas,
		replicaCount{"updatedReplicas", status.UpdatedReplicas})...)
	return append(errs, collisionCount(status.CollisionCount, old.Status.CollisionCount)...)
}
