// Package hostport tells which ports of its node a pod takes, and which two pods
// cannot have on one node.
package hostport

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// Of returns the ports that the main containers and sidecars of a pod take on its node,
// each with its protocol.
func Of(pod *corev1.Pod) (ports []corev1.ContainerPort) {
	take := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort > 0 {
				port.Protocol = cmp.Or(port.Protocol, corev1.ProtocolTCP)
				ports = append(ports, port)
			}
		}
	}
	for i := range pod.Spec.Containers {
		take(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; ptr.Deref(c.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
			take(c)
		}
	}
	return ports
}

// Conflict says whether no two pods can have these ports of Of on one node: they are
// the same of one protocol, at one address or at all.
func Conflict(a, b corev1.ContainerPort) bool {
	return a.HostPort == b.HostPort && a.Protocol == b.Protocol &&
		(everyAddress(a.HostIP) || everyAddress(b.HostIP) || a.HostIP == b.HostIP)
}

func everyAddress(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
