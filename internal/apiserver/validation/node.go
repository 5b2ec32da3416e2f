package validation

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

func nodeCreate(n *corev1.Node) field.ErrorList {
	errs := clusterWide(&n.ObjectMeta, subdomainName)
	return append(errs, nodeRules(n)...)
}

// nodeUpdate returns the faults of a Node as the replacement of old, written by whoever:
// the specification by controllers and people, the status by the node itself. What was
// assigned once, ranges and provider's name, stays.
func nodeUpdate(n, old *corev1.Node) field.ErrorList {
	errs := metadataUpdate(&n.ObjectMeta, &old.ObjectMeta)
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(specPath.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != n.Spec.ProviderID {
		errs = append(errs, field.Forbidden(specPath.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	if old.Spec.DoNotUseExternalID != n.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(specPath.Child("externalID"), "may not be updated"))
	}
	errs = append(errs, nodeRules(n)...)
	return append(errs, nodeAddresses(n.Status.Addresses)...)
}

func nodeRules(n *corev1.Node) field.ErrorList {
	errs := taints(n.Spec.Taints)
	errs = append(errs, podCIDRs(&n.Spec)...)
	errs = append(errs, nodeQuantities(statusPath.Child("capacity"), n.Status.Capacity)...)
	return append(errs, nodeQuantities(statusPath.Child("allocatable"), n.Status.Allocatable)...)
}

// taints requires well-formed taints, no two with the same key and effect.
func taints(list []corev1.Taint) field.ErrorList {
	type identity struct {
		key    string
		effect corev1.TaintEffect
	}
	var errs field.ErrorList
	seen := sets.New[identity]()
	for i, taint := range list {
		fld := specPath.Child("taints").Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(taint.Key, fld.Child("key"))...)
		errs = append(errs, invalidFor(fld.Child("value"), taint.Value, validation.IsValidLabelValue(taint.Value))...)
		errs = append(errs, requireChoice(fld.Child("effect"), taint.Effect,
			corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)...)
		id := identity{taint.Key, taint.Effect}
		if seen.Has(id) {
			duplicate := field.Duplicate(fld, taint)
			duplicate.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, duplicate)
		}
		seen.Insert(id)
	}
	return errs
}

// podCIDRs requires at most one range per family, the first repeated in the singular field.
func podCIDRs(spec *corev1.NodeSpec) field.ErrorList {
	fld := specPath.Child("podCIDRs")
	var errs field.ErrorList
	for i, value := range spec.PodCIDRs {
		errs = append(errs, cidr(fld.Index(i), value)...)
	}
	if len(errs) > 0 {
		return errs
	}
	if spec.PodCIDR != "" && (len(spec.PodCIDRs) == 0 || spec.PodCIDRs[0] != spec.PodCIDR) ||
		spec.PodCIDR == "" && len(spec.PodCIDRs) > 0 {
		errs = append(errs, field.Invalid(fld, spec.PodCIDRs, "first value must match `podCIDR`"))
	}
	if many := len(spec.PodCIDRs); many > 2 || many == 2 && netutils.IsIPv6CIDRString(spec.PodCIDRs[0]) == netutils.IsIPv6CIDRString(spec.PodCIDRs[1]) {
		errs = append(errs, field.Invalid(fld, spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

// nodeQuantities requires quantities to be at least zero, and whole where parts make no sense.
func nodeQuantities(fld *field.Path, list corev1.ResourceList) field.ErrorList {
	var errs field.ErrorList
	for name, quantity := range list {
		fld := fld.Key(string(name))
		errs = append(errs, invalidFor(fld, string(name), validation.IsQualifiedName(string(name)))...)
		if quantity.Sign() < 0 {
			errs = append(errs, field.Invalid(fld, quantity.String(), apivalidation.IsNegativeErrorMsg))
		}
		if countedWhole(name) && quantity.MilliValue()%1000 != 0 {
			errs = append(errs, field.Invalid(fld, quantity.String(), "must be an integer"))
		}
	}
	return errs
}

// countedWhole reports whether a node has only whole numbers of a resource.
func countedWhole(name corev1.ResourceName) bool {
	domain, _, qualified := strings.Cut(string(name), "/")
	return name == corev1.ResourcePods || qualified && !isKubernetesDomain(domain)
}

func nodeAddresses(list []corev1.NodeAddress) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[corev1.NodeAddress]()
	for i, address := range list {
		if seen.Has(address) {
			errs = append(errs, field.Duplicate(statusPath.Child("addresses").Index(i), address))
		}
		seen.Insert(address)
	}
	return errs
}
