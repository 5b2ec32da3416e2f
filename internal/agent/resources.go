package agent

import (
	corev1 "k8s.io/api/core/v1"
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

// oomScore is how early the kernel kills a container when memory runs out, as
// Kubernetes documents it for each quality of service.
func oomScore(pod *corev1.Pod, c *corev1.Container, memory int64) int {
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
