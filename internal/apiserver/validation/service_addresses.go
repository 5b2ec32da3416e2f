package validation

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// headless reports whether a Service has no address of its own.
func headless(spec *corev1.ServiceSpec) bool {
	if len(spec.ClusterIPs) > 0 {
		return len(spec.ClusterIPs) == 1 && spec.ClusterIPs[0] == corev1.ClusterIPNone
	}
	return spec.ClusterIP == corev1.ClusterIPNone
}

// clusterIPs holds the rules about a Service's own addresses and their families.
func clusterIPs(spec *corev1.ServiceSpec) field.ErrorList {
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	errs := firstClusterIP(spec)
	errs = append(errs, ipFamilies(spec)...)
	addresses := clusterIPValues(spec)
	errs = append(errs, addresses...)
	if len(addresses) > 0 || headless(spec) {
		return errs
	}
	return append(errs, addressFamilies(spec)...)
}

// firstClusterIP requires the singular field to repeat the first value of the plural one.
func firstClusterIP(spec *corev1.ServiceSpec) field.ErrorList {
	fld := specPath.Child("clusterIPs")
	switch {
	case spec.ClusterIP == "" && len(spec.ClusterIPs) > 0:
		return field.ErrorList{field.Invalid(fld, spec.ClusterIPs, "must be empty when `clusterIP` is not specified")}
	case spec.ClusterIP != "" && len(spec.ClusterIPs) == 0:
		return field.ErrorList{field.Required(fld, "")}
	case spec.ClusterIP != "" && spec.ClusterIPs[0] != spec.ClusterIP:
		return field.ErrorList{field.Invalid(fld, spec.ClusterIPs, "first value must match `clusterIP`")}
	}
	return nil
}

// ipFamilies holds the rules about the families alone, and about the policy for them.
func ipFamilies(spec *corev1.ServiceSpec) field.ErrorList {
	fld := specPath.Child("ipFamilies")
	var errs field.ErrorList
	for i, family := range spec.IPFamilies {
		errs = append(errs, choice(fld.Index(i), family, corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if slices.Contains(spec.IPFamilies[:i], family) {
			errs = append(errs, field.Duplicate(fld.Index(i), family))
		}
	}
	policyPath := specPath.Child("ipFamilyPolicy")
	errs = append(errs, optionalChoice(policyPath, spec.IPFamilyPolicy,
		corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)...)
	if singleStack(spec) {
		const message = "must be RequireDualStack or PreferDualStack when multiple `%s` are specified"
		if len(spec.ClusterIPs) == 2 {
			errs = append(errs, field.Invalid(policyPath, spec.IPFamilyPolicy, fmt.Sprintf(message, "clusterIPs")))
		}
		if len(spec.IPFamilies) == 2 && len(spec.ClusterIPs) != 2 {
			errs = append(errs, field.Invalid(policyPath, spec.IPFamilyPolicy, fmt.Sprintf(message, "ipFamilies")))
		}
	}
	return errs
}

// singleStack reports whether the Service asks for one family: it does unless it says otherwise.
func singleStack(spec *corev1.ServiceSpec) bool {
	return spec.IPFamilyPolicy == nil || *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
}

// clusterIPValues holds the rules about each address alone, and about their number.
func clusterIPValues(spec *corev1.ServiceSpec) field.ErrorList {
	fld := specPath.Child("clusterIPs")
	var errs field.ErrorList
	for i, address := range spec.ClusterIPs {
		if i == 0 && address == corev1.ClusterIPNone {
			if len(spec.ClusterIPs) > 1 {
				errs = append(errs, field.Invalid(fld, spec.ClusterIPs, "'None' must be the first and only value"))
			}
			continue
		}
		errs = append(errs, ipAddress(fld.Index(i), address)...)
	}
	if len(spec.ClusterIPs) > 2 {
		errs = append(errs, field.Invalid(fld, spec.ClusterIPs, "may only hold up to 2 values"))
	}
	return errs
}

// addressFamilies requires addresses to be of the families that the Service names.
func addressFamilies(spec *corev1.ServiceSpec) field.ErrorList {
	fld := specPath.Child("clusterIPs")
	var errs field.ErrorList
	if !onePerFamily(spec.ClusterIPs) {
		errs = append(errs, field.Invalid(fld, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
	}
	for i, address := range spec.ClusterIPs {
		if i == len(spec.IPFamilies) {
			break
		}
		family := spec.IPFamilies[i]
		if !ofFamily(address, family) {
			errs = append(errs, field.Invalid(fld.Index(i), address, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", family, i)))
		}
	}
	return errs
}

// clusterIPsUpdate allows no address to change: a second one may come and go, with the policy.
func clusterIPsUpdate(spec, old *corev1.ServiceSpec) field.ErrorList {
	if !keepsAddresses(spec, old) {
		return nil
	}
	return dualStackUpdate("clusterIP", specPath.Child("clusterIPs"), spec, spec.ClusterIPs, old.ClusterIPs)
}

// ipFamiliesUpdate allows no family to change: a second one may come and go, with the policy.
func ipFamiliesUpdate(spec, old *corev1.ServiceSpec) field.ErrorList {
	if !keepsAddresses(spec, old) {
		return nil
	}
	return dualStackUpdate("ipFamily", specPath.Child("ipFamilies"), spec, spec.IPFamilies, old.IPFamilies)
}

// keepsAddresses reports whether a Service had addresses before an update and has after it.
func keepsAddresses(spec, old *corev1.ServiceSpec) bool {
	return spec.Type != corev1.ServiceTypeExternalName && old.Type != corev1.ServiceTypeExternalName
}

// dualStackUpdate compares a list of one value per family with what it replaces.
func dualStackUpdate[T comparable](what string, fld *field.Path, spec *corev1.ServiceSpec, values, old []T) field.ErrorList {
	const fixed = "may not change once set"
	var errs field.ErrorList
	if len(old) == 0 {
		return nil
	}
	if len(values) == 0 {
		return field.ErrorList{field.Invalid(fld.Index(0), values, "primary "+what+" can not be unset")}
	}
	for i := range min(len(values), len(old)) {
		if values[i] != old[i] {
			errs = append(errs, field.Invalid(fld.Index(i), values, fixed))
		}
	}
	if len(values) < len(old) && !singleStack(spec) {
		errs = append(errs, field.Invalid(fld.Index(len(values)), values, "`ipFamilyPolicy` must be set to 'SingleStack' when releasing the secondary "+what))
	}
	if len(values) > len(old) && singleStack(spec) {
		errs = append(errs, field.Invalid(fld.Index(len(old)), values, "`ipFamilyPolicy` must be set to 'PreferDualStack' or 'RequireDualStack' when adding a secondary "+what))
	}
	return errs
}
