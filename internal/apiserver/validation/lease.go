package validation

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func leaseCreate(l *coordinationv1.Lease) field.ErrorList {
	return append(namespaced(&l.ObjectMeta, subdomainName), leaseRules(&l.Spec)...)
}

func leaseUpdate(l, old *coordinationv1.Lease) field.ErrorList {
	return append(metadataUpdate(&l.ObjectMeta, &old.ObjectMeta), leaseRules(&l.Spec)...)
}

func leaseRules(spec *coordinationv1.LeaseSpec) field.ErrorList {
	var errs field.ErrorList
	if seconds := spec.LeaseDurationSeconds; seconds != nil && *seconds <= 0 {
		errs = append(errs, field.Invalid(specPath.Child("leaseDurationSeconds"), *seconds, "must be greater than 0"))
	}
	if transitions := spec.LeaseTransitions; transitions != nil && *transitions < 0 {
		errs = append(errs, field.Invalid(specPath.Child("leaseTransitions"), *transitions, "must be greater than or equal to 0"))
	}
	if spec.Strategy != nil {
		errs = append(errs, leaseStrategy(specPath.Child("strategy"), *spec.Strategy)...)
	}
	if preferred := spec.PreferredHolder; preferred != nil && *preferred != "" && (spec.Strategy == nil || *spec.Strategy == "") {
		errs = append(errs, field.Invalid(specPath.Child("preferredHolder"), *preferred, "may only be specified when `strategy` is defined"))
	}
	return errs
}

// leaseStrategy requires a strategy of ours, or one with a domain, which is someone else's.
func leaseStrategy(fld *field.Path, strategy coordinationv1.CoordinatedLeaseStrategy) field.ErrorList {
	if strings.Contains(string(strategy), "/") {
		return qualifiedName(fld, string(strategy))
	}
	return choice(fld, strategy, coordinationv1.OldestEmulationVersion)
}
