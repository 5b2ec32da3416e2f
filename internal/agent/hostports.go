package agent

import (
	"cmp"
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// portsTaken: a pod that is in has a port of the node that this one wants.
func (d door) portsTaken(pod *corev1.Pod) bool {
	for wanted := range hostPorts(pod) {
		for _, other := range d.pods {
			for taken := range hostPorts(other) {
				if samePort(wanted, taken) {
					return true
				}
			}
		}
	}
	return false
}

// hostPorts goes through the ports that the main containers and sidecars of a pod take
// on its node.
func hostPorts(pod *corev1.Pod) iter.Seq[corev1.ContainerPort] {
	return func(yield func(corev1.ContainerPort) bool) {
		sidecars := slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c corev1.Container) bool {
			return ptr.Deref(c.RestartPolicy, "") != corev1.ContainerRestartPolicyAlways
		})
		for _, c := range slices.Concat(sidecars, pod.Spec.Containers) {
			for _, port := range c.Ports {
				if port.HostPort > 0 && !yield(port) {
					return
				}
			}
		}
	}
}

// samePort: no two pods can have these on one node.
func samePort(a, b corev1.ContainerPort) bool {
	return a.HostPort == b.HostPort && cmp.Or(a.Protocol, corev1.ProtocolTCP) == cmp.Or(b.Protocol, corev1.ProtocolTCP) &&
		(everyAddress(a.HostIP) || everyAddress(b.HostIP) || a.HostIP == b.HostIP)
}

func everyAddress(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
