package validation

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// ValidatePodStatusUpdate returns the faults of pod's status as the replacement of old's,
// through the status subresource. The specification is taken as it is, since the caller puts
// the old one there; only the node, which a pod without one may be given by its binding, is
// looked at.
func ValidatePodStatusUpdate(pod, old *corev1.Pod) field.ErrorList {
	meta, fld := field.NewPath("metadata"), field.NewPath("status")
	status, before := &pod.Status, &old.Status
	errs := apivalidation.ValidateObjectMetaUpdate(&pod.ObjectMeta, &old.ObjectMeta, meta)
	errs = append(errs, podAnnotationsUpdate(meta.Child("annotations"), pod.Annotations, old.Annotations)...)
	errs = append(errs, podConditions(fld.Child("conditions"), status.Conditions)...)
	if pod.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "nodeName"), "may not be changed directly"))
	}
	if status.NominatedNodeName != before.NominatedNodeName {
		errs = append(errs, optionalFormat(fld.Child("nominatedNodeName"), status.NominatedNodeName, isNodeName)...)
	}
	if before.QOSClass != "" && status.QOSClass != before.QOSClass {
		errs = append(errs, field.Invalid(fld.Child("qosClass"), status.QOSClass, apivalidation.FieldImmutableErrorMsg))
	}
	errs = append(errs, apivalidation.ValidateNonnegativeField(status.ObservedGeneration, fld.Child("observedGeneration"))...)
	errs = append(errs, podAddresses(fld, status)...)

	spec := &old.Spec
	errs = append(errs, containerStates(fld.Child("containerStatuses"), status.ContainerStatuses, before.ContainerStatuses,
		func(s corev1.ContainerStatus) bool {
			return mayRestart(spec, findContainer(spec.Containers, s.Name), s.State.Terminated)
		})...)
	errs = append(errs, containerStates(fld.Child("initContainerStatuses"), status.InitContainerStatuses, before.InitContainerStatuses,
		func(s corev1.ContainerStatus) bool {
			return mayRestart(spec, findContainer(spec.InitContainers, s.Name), s.State.Terminated)
		})...)
	errs = append(errs, containerStates(fld.Child("ephemeralContainerStatuses"), status.EphemeralContainerStatuses, before.EphemeralContainerStatuses,
		func(corev1.ContainerStatus) bool { return false })...)
	return append(errs, claimStatuses(fld.Child("resourceClaimStatuses"), status.ResourceClaimStatuses, spec)...)
}

func podConditions(fld *field.Path, conditions []corev1.PodCondition) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[corev1.PodConditionType]()
	for i, condition := range conditions {
		at := fld.Index(i)
		errs = append(errs, requireFormat(at.Child("type"), string(condition.Type), validation.IsQualifiedName)...)
		if seen.Has(condition.Type) {
			errs = append(errs, field.Duplicate(at.Child("type"), condition.Type))
		}
		seen.Insert(condition.Type)
	}
	return errs
}

// podAddresses returns the faults of a pod's addresses and of its host's: each list begins
// with the single address beside it, and has one of each family at most.
func podAddresses(fld *field.Path, status *corev1.PodStatus) field.ErrorList {
	pods, hosts := make([]string, len(status.PodIPs)), make([]string, len(status.HostIPs))
	for i, address := range status.PodIPs {
		pods[i] = address.IP
	}
	for i, address := range status.HostIPs {
		hosts[i] = address.IP
	}
	errs := addresses(fld.Child("podIPs"), pods, status.PodIP, "podIP")
	return append(errs, addresses(fld.Child("hostIPs"), hosts, status.HostIP, "hostIP")...)
}

func addresses(fld *field.Path, list []string, first, name string) field.ErrorList {
	var errs field.ErrorList
	seen, families := sets.New[string](), sets.New[bool]()
	for i, address := range list {
		if faults := validation.IsValidIPForLegacyField(fld.Index(i), address, false, nil); len(faults) > 0 {
			errs = append(errs, faults...)
			continue
		}
		family := netutils.IsIPv6String(address)
		switch {
		case seen.Has(address):
			errs = append(errs, field.Duplicate(fld.Index(i), address))
		case families.Has(family):
			errs = append(errs, field.Invalid(fld, list, "may specify no more than one IP for each IP family"))
		}
		seen.Insert(address)
		families.Insert(family)
	}
	if len(list) > 0 && list[0] != first {
		errs = append(errs, field.Invalid(fld.Index(0), list[0], "must be equal to `"+name+"`"))
	}
	return errs
}

// containerStates refuses to bring a container back that has ended and may not restart.
func containerStates(fld *field.Path, list, old []corev1.ContainerStatus, mayRestart func(corev1.ContainerStatus) bool) field.ErrorList {
	var errs field.ErrorList
	for _, before := range old {
		if before.State.Terminated == nil || mayRestart(before) {
			continue
		}
		for i, now := range list {
			if now.Name == before.Name && now.State.Terminated == nil {
				errs = append(errs, field.Forbidden(fld.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

// mayRestart tells whether a container, nil when the pod has none of that name, may run again
// after it ended so: by its own rules and policy, else by the pod's.
func mayRestart(spec *corev1.PodSpec, c *corev1.Container, end *corev1.ContainerStateTerminated) bool {
	if restartsAllContainers(spec) {
		return true
	}
	policy := spec.RestartPolicy
	if c != nil && c.RestartPolicy != nil {
		if slices.ContainsFunc(c.RestartPolicyRules, func(rule corev1.ContainerRestartRule) bool { return ruleMatches(rule, end.ExitCode) }) {
			return true
		}
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	return policy == corev1.RestartPolicyAlways || (policy == corev1.RestartPolicyOnFailure && end.ExitCode != 0)
}

// restartsAllContainers tells whether one container's end may bring back all the others.
func restartsAllContainers(spec *corev1.PodSpec) bool {
	return slices.ContainsFunc(slices.Concat(spec.InitContainers, spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(rule corev1.ContainerRestartRule) bool {
			return rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

func ruleMatches(rule corev1.ContainerRestartRule, code int32) bool {
	if rule.ExitCodes == nil {
		return false
	}
	contains := slices.Contains(rule.ExitCodes.Values, code)
	return contains == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn)
}

func findContainer(list []corev1.Container, name string) *corev1.Container {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// claimStatuses refuses statuses of resource claims that the pod does not have.
func claimStatuses(fld *field.Path, statuses []corev1.PodResourceClaimStatus, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, status := range statuses {
		at := fld.Index(i)
		if !slices.ContainsFunc(spec.ResourceClaims, func(c corev1.PodResourceClaim) bool { return c.Name == status.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), status.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		errs = append(errs, uniqueName(at, status.Name, names)...)
		if name := status.ResourceClaimName; name != nil {
			errs = append(errs, invalidFor(at.Child("resourceClaimName"), *name, isName(*name))...)
		}
	}
	return errs
}
