package service

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/condition"
)

// ingress returns the addresses under which a Service is reached from outside:
// of each node that is ready and not being deleted its ExternalIP, else its
// InternalIP, in order. A Service of another type, or of somebody else's load
// balancer class, has none of ours.
func ingress(service *corev1.Service, nodes []corev1.Node) []corev1.LoadBalancerIngress {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	var list []corev1.LoadBalancerIngress
	for i := range nodes {
		if ip := address(&nodes[i]); ip != "" {
			list = append(list, corev1.LoadBalancerIngress{IP: ip, IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
		}
	}
	slices.SortFunc(list, func(a, b corev1.LoadBalancerIngress) int { return cmp.Compare(a.IP, b.IP) })
	return slices.CompactFunc(list, func(a, b corev1.LoadBalancerIngress) bool { return a.IP == b.IP })
}

// rival returns the Service that has the nodes' addresses with a port of this one
// already, and the port; nil when there is none. A node's address and port lead to one
// Service: to the one that was made first, of those that have all their ports.
func rival(service *corev1.Service, all []corev1.Service) (*corev1.Service, corev1.ServicePort) {
	type door struct {
		port     int32
		protocol corev1.Protocol
	}
	var older []*corev1.Service
	for i := range all {
		if s := &all[i]; s.Spec.Type == corev1.ServiceTypeLoadBalancer && !foreign(s) && s.DeletionTimestamp == nil && byAge(s, service) < 0 {
			older = append(older, s)
		}
	}
	slices.SortFunc(older, byAge)
	doors := map[door]*corev1.Service{}
	taken := func(s *corev1.Service) (*corev1.Service, corev1.ServicePort) {
		for _, p := range s.Spec.Ports {
			if by := doors[door{p.Port, p.Protocol}]; by != nil {
				return by, p
			}
		}
		return nil, corev1.ServicePort{}
	}
	for _, s := range older {
		if by, _ := taken(s); by != nil {
			continue
		}
		for _, p := range s.Spec.Ports {
			doors[door{p.Port, p.Protocol}] = s
		}
	}
	return taken(service)
}

// byAge orders Services, the first made first.
func byAge(a, b *corev1.Service) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// foreign reports whether another controller looks after the Service.
func foreign(service *corev1.Service) bool { return service.Spec.LoadBalancerClass != nil }

func address(node *corev1.Node) string {
	if node.DeletionTimestamp != nil || !condition.OfNode(node, corev1.NodeReady) {
		return ""
	}
	internal := ""
	for _, a := range node.Status.Addresses {
		switch {
		case a.Type == corev1.NodeExternalIP:
			return a.Address
		case a.Type == corev1.NodeInternalIP && internal == "":
			internal = a.Address
		}
	}
	return internal
}
