package defaults

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// milli rounds every quantity up to a thousandth, the finest that the API stores.
func milli(list corev1.ResourceList) {
	for name, quantity := range list {
		quantity.RoundUp(resource.Milli)
		list[name] = quantity
	}
}

func milliAll(r *corev1.ResourceRequirements) {
	milli(r.Limits)
	milli(r.Requests)
}

// requestsFromLimits requests what is limited and not requested.
func requestsFromLimits(r *corev1.ResourceRequirements) {
	fillMissing(&r.Requests, r.Limits, func(corev1.ResourceName) bool { return true })
}

// podLevelResources completes a pod's own resources, if it states any. Its request is,
// in this order: the stated one, what its containers request together, its limit.
// A limit on huge pages, which must equal the request, is what its containers have together.
func podLevelResources(p *corev1.Pod) {
	r := p.Spec.Resources
	if r == nil || len(r.Requests) == 0 && len(r.Limits) == 0 {
		return
	}
	containers := resourcehelper.AggregateContainerRequests(p, resourcehelper.PodResourcesOptions{})
	limits := resourcehelper.AggregateContainerLimits(p, resourcehelper.PodResourcesOptions{})
	fillMissing(&r.Limits, limits, func(name corev1.ResourceName) bool {
		_, requested := r.Requests[name]
		return hugePages(name) && !requested
	})
	fillMissing(&r.Requests, containers, func(name corev1.ResourceName) bool {
		return !hugePages(name) && resourcehelper.IsSupportedPodLevelResource(name)
	})
	fillMissing(&r.Requests, r.Limits, resourcehelper.IsSupportedPodLevelResource)
}

func hugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// fillMissing copies to *list the quantities of from that it lacks and wanted accepts.
func fillMissing(list *corev1.ResourceList, from corev1.ResourceList, wanted func(corev1.ResourceName) bool) {
	for name, quantity := range from {
		if _, there := (*list)[name]; there || !wanted(name) {
			continue
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = quantity.DeepCopy()
	}
}
