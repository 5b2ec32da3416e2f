package agent

import (
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/util/qos"
)

// What the kernel takes for CPU: shares of 1024 a core, and microseconds of
// each period (cgroups(7), sched-bwc).
const (
	sharesPerCore = 1024
	minShares     = 2
	cpuPeriod     = 100_000
	minQuota      = 1_000
)

// nodeCritical is the class of pods that a node cannot do without.
const nodeCritical = "system-node-critical"

// resourcesOf turns a container's requests and limits into what the kernel
// takes. memory is the node's, in bytes.
func resourcesOf(pod *corev1.Pod, c *corev1.Container, memory int64) Resources {
	r := Resources{OOMScoreAdj: oomScore(pod, c, memory), CPUShares: minShares}
	request, ok := c.Resources.Requests[corev1.ResourceCPU]
	if !ok {
		request = c.Resources.Limits[corev1.ResourceCPU]
	}
	if milli := request.MilliValue(); milli > 0 {
		r.CPUShares = max(uint64(milli)*sharesPerCore/1000, minShares)
	}
	if limit, ok := c.Resources.Limits[corev1.ResourceCPU]; ok && limit.MilliValue() > 0 {
		r.CPUPeriod = cpuPeriod
		r.CPUQuota = max(limit.MilliValue()*cpuPeriod/1000, minQuota)
	}
	if limit, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
		r.MemoryLimit = limit.Value()
	}
	return r
}

// podGroupOf is what a pod as a whole is held to: the sum of what its containers
// may have, or what the pod's own resources say, with its overhead. maxPids is
// how many processes it may have; 0 is any number.
func podGroupOf(pod *corev1.Pod, maxPids int64) PodGroup {
	group := PodGroup{QOS: qos.GetPodQOS(pod), Resources: Resources{CPUShares: minShares, PidsLimit: maxPids}}
	if group.QOS == corev1.PodQOSBestEffort {
		return group
	}
	whole := corev1.Container{Resources: corev1.ResourceRequirements{Requests: resource.PodRequests(pod, resource.PodResourcesOptions{}), Limits: corev1.ResourceList{}}}
	for name, limit := range resource.PodLimits(pod, resource.PodResourcesOptions{}) {
		if limited(pod, name) {
			whole.Resources.Limits[name] = limit
		}
	}
	if _, ok := whole.Resources.Requests[corev1.ResourceCPU]; !ok {
		whole.Resources.Requests[corev1.ResourceCPU] = apiresource.Quantity{} // not the limits, of which some may be missing
	}
	r := resourcesOf(pod, &whole, 0)
	group.Resources.CPUShares, group.Resources.CPUQuota, group.Resources.CPUPeriod, group.Resources.MemoryLimit = r.CPUShares, r.CPUQuota, r.CPUPeriod, r.MemoryLimit
	return group
}

// limited: the pod as a whole has a limit of a resource, its own or because every
// container has one.
func limited(pod *corev1.Pod, name corev1.ResourceName) bool {
	if pod.Spec.Resources != nil {
		if limit, ok := pod.Spec.Resources.Limits[name]; ok {
			return !limit.IsZero()
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			limit := list[i].Resources.Limits[name]
			if limit.IsZero() {
				return false
			}
		}
	}
	return true
}

// oomScore is how early the kernel kills a container when memory runs out, as
// Kubernetes documents it for each quality of service.
func oomScore(pod *corev1.Pod, c *corev1.Container, memory int64) int {
	if pod.Spec.PriorityClassName == nodeCritical {
		return -997
	}
	switch qos.GetPodQOS(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	if memory <= 0 {
		return 999
	}
	request := c.Resources.Requests.Memory().Value()
	score := 1000 - 1000*request/memory
	return int(min(max(score, 3), 999))
}
