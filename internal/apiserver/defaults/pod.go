package defaults

import (
	corev1 "k8s.io/api/core/v1"
)

// pod fills in a pod: all that a template gets, and what only a real pod gets,
// so that stored templates stay as their authors wrote them.
func pod(p *corev1.Pod) {
	podSpec(&p.Spec)
	orPointer(&p.Spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	for i := range p.Spec.InitContainers {
		requestsFromLimits(&p.Spec.InitContainers[i].Resources)
	}
	for i := range p.Spec.Containers {
		requestsFromLimits(&p.Spec.Containers[i].Resources)
	}
	podLevelResources(p)
	if p.Spec.HostNetwork {
		hostPorts(p.Spec.InitContainers)
		hostPorts(p.Spec.Containers)
	}
	for i := range p.Status.ContainerStatuses {
		milli(p.Status.ContainerStatuses[i].AllocatedResources)
	}
}

// podTemplate fills in the pod template object, a kind that only stores a template.
func podTemplate(t *corev1.PodTemplate) {
	podSpec(&t.Template.Spec)
}

// podSpec fills in the part of a pod that templates share.
func podSpec(s *corev1.PodSpec) {
	orElse(&s.DNSPolicy, corev1.DNSClusterFirst)
	orElse(&s.RestartPolicy, corev1.RestartPolicyAlways)
	orPointer(&s.SecurityContext, corev1.PodSecurityContext{})
	orPointer(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	orElse(&s.SchedulerName, corev1.DefaultSchedulerName)
	milli(s.Overhead)
	if s.Resources != nil {
		milliAll(s.Resources)
	}

	for i := range s.Volumes {
		volume(&s.Volumes[i])
	}
	for i := range s.InitContainers {
		container(&s.InitContainers[i])
	}
	for i := range s.Containers {
		container(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		// The two types are the same, field by field; TestEphemeralContainersAreContainers holds it.
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		container(&c)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
}

// hostPorts gives every port of a pod in the host's network its own number as host port,
// the only one that it can have there.
func hostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			orElse(&containers[i].Ports[j].HostPort, containers[i].Ports[j].ContainerPort)
		}
	}
}
