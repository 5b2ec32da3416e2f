package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"
)

// containerResources returns the faults of what a container asks for and is held to.
func containerResources(fld *field.Path, r *corev1.ResourceRequirements, facts podFacts) field.ErrorList {
	errs := requirements(fld, r, containerResourceName)
	names := sets.New[string]()
	for i, claim := range r.Claims {
		at := fld.Child("claims").Index(i)
		if claim.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		key := claim.Name
		if claim.Request != "" {
			key += "/" + claim.Request
		}
		if names.Has(key) {
			errs = append(errs, field.Duplicate(at, key))
		}
		names.Insert(key)
		errs = append(errs, optionalFormat(at.Child("request"), claim.Request, validation.IsDNS1123Label)...)
		if !facts.claims.Has(claim.Name) {
			notFound := field.NotFound(at.Child("name"), claim.Name)
			notFound.Detail = "must be one of the names in pod.spec.resourceClaims"
			errs = append(errs, notFound)
		}
	}
	return errs
}

// requirements returns the faults of limits and requests whose names named judges.
func requirements(fld *field.Path, r *corev1.ResourceRequirements, named func(*field.Path, corev1.ResourceName) field.ErrorList) field.ErrorList {
	limits, requests := fld.Child("limits"), fld.Child("requests")
	errs := resourceList(limits, r.Limits, named)
	errs = append(errs, resourceList(requests, r.Requests, named)...)
	hasCompute, hasHugePages := false, false
	for _, list := range []corev1.ResourceList{r.Limits, r.Requests} {
		for name := range list {
			hasCompute = hasCompute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
			hasHugePages = hasHugePages || isHugePages(name)
		}
	}
	for _, name := range sets.List(sets.KeySet(r.Requests)) {
		request := r.Requests[name]
		limit, ok := r.Limits[name]
		switch {
		case !ok && !isOvercommitAllowed(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		case ok && !isOvercommitAllowed(name) && request.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case ok && request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	if hasHugePages && !hasCompute {
		errs = append(errs, field.Forbidden(fld, "HugePages require cpu or memory"))
	}
	return errs
}

// resourceList returns the faults of names and quantities, in the order of the names.
func resourceList(fld *field.Path, list corev1.ResourceList, named func(*field.Path, corev1.ResourceName) field.ErrorList) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sets.List(sets.KeySet(list)) {
		at := fld.Key(string(name))
		errs = append(errs, named(at, name)...)
		errs = append(errs, resourceQuantity(at, name, list[name])...)
	}
	return errs
}

func resourceQuantity(fld *field.Path, name corev1.ResourceName, quantity resource.Quantity) field.ErrorList {
	errs := nonNegativeQuantity(fld, quantity)
	if isExtendedResource(name) && quantity.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(fld, quantity.String(), "must be an integer"))
	}
	if !isHugePages(name) {
		return errs
	}
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	switch {
	case err != nil || size.Sign() <= 0:
		errs = append(errs, field.Invalid(fld, string(name), "must name the size of the pages, a positive quantity"))
	case quantity.Value()%size.Value() != 0:
		errs = append(errs, field.Invalid(fld, quantity.String(), fmt.Sprintf("%s is not positive integer multiple of %s", quantity.String(), name)))
	}
	return errs
}

func nonNegativeQuantity(fld *field.Path, quantity resource.Quantity) field.ErrorList {
	if quantity.Sign() < 0 {
		return field.ErrorList{field.Invalid(fld, quantity.String(), apivalidation.IsNegativeErrorMsg)}
	}
	return nil
}

// containerResourceName returns the faults of the name of something a container can have.
func containerResourceName(fld *field.Path, name corev1.ResourceName) field.ErrorList {
	if messages := validation.IsQualifiedName(string(name)); len(messages) > 0 {
		return invalidFor(fld, string(name), messages)
	}
	switch {
	case strings.Contains(string(name), "/"):
		if !isNative(name) && !isExtendedResource(name) {
			return field.ErrorList{field.Invalid(fld, string(name), "doesn't follow extended resource name standard")}
		}
	case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage, isHugePages(name):
	default:
		return field.ErrorList{field.Invalid(fld, string(name), "must be a standard resource for containers")}
	}
	return nil
}

func isHugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// isNative tells whether a resource is Kubernetes' own.
func isNative(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// isExtendedResource tells whether a resource is one that a device plugin may offer.
func isExtendedResource(name corev1.ResourceName) bool {
	quota := corev1.DefaultResourceRequestsPrefix + string(name)
	return !isNative(name) && !strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) && len(validation.IsQualifiedName(quota)) == 0
}

// isOvercommitAllowed tells whether more of a resource may be used than was asked for.
func isOvercommitAllowed(name corev1.ResourceName) bool {
	return isNative(name) && !isHugePages(name)
}

// resizePolicy returns the faults of what is to be done when a container's resources change.
func resizePolicy(fld *field.Path, policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[corev1.ResourceName]()
	for i, policy := range policies {
		at := fld.Index(i)
		if names.Has(policy.ResourceName) {
			errs = append(errs, field.Duplicate(at, policy.ResourceName))
		}
		names.Insert(policy.ResourceName)
		errs = append(errs, requireChoice(at.Child("resourceName"), policy.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, requireChoice(at.Child("restartPolicy"), policy.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)...)
		if restart == corev1.RestartPolicyNever && policy.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(at.Child("restartPolicy"), policy.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

// podResources returns the faults of the resources of a pod as a whole, and of its overhead.
func podResources(fld *field.Path, facts podFacts) field.ErrorList {
	errs := resourceList(fld.Child("overhead"), facts.spec.Overhead, containerResourceName)
	r := facts.spec.Resources
	if r == nil {
		return errs
	}
	fld = fld.Child("resources")
	if r.Claims != nil {
		errs = append(errs, field.Forbidden(fld.Child("claims"), "claims cannot be set for Resources at pod-level"))
	}
	errs = append(errs, requirements(fld, r, podResourceName)...)
	pod := &corev1.Pod{Spec: *facts.spec}
	sum := resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{})
	for _, name := range sets.List(sets.KeySet(r.Requests)) {
		request, used := r.Requests[name], sum[name]
		if request.Cmp(used) < 0 {
			errs = append(errs, field.Invalid(fld.Child("requests").Key(string(name)), request.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", used.String())))
		}
	}
	for _, list := range [][]corev1.Container{facts.spec.InitContainers, facts.spec.Containers} {
		errs = append(errs, limitsWithin(fld.Child("limits"), list, r.Limits)...)
	}
	return errs
}

func podResourceName(fld *field.Path, name corev1.ResourceName) field.ErrorList {
	if resourcehelper.IsSupportedPodLevelResource(name) {
		return nil
	}
	return field.ErrorList{field.NotSupported(fld, name, sets.List(resourcehelper.SupportedPodLevelResources()))}
}

// limitsWithin refuses a pod's limits that are below the limit of one of its containers.
func limitsWithin(fld *field.Path, list []corev1.Container, limits corev1.ResourceList) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sets.List(sets.KeySet(limits)) {
		limit := limits[name]
		for _, c := range list {
			if own, ok := c.Resources.Limits[name]; ok && own.Cmp(limit) > 0 {
				errs = append(errs, field.Invalid(fld.Key(string(name)), limit.String(),
					fmt.Sprintf("must be greater than or equal to the limit of container %q of %s", c.Name, own.String())))
			}
		}
	}
	return errs
}
