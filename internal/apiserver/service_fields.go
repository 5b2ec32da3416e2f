package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Which fields of a Service go with which type, and what an update that leaves
// allocated fields out means. All of it is pure; service.go allocates.

func needsClusterIP(s *corev1.Service) bool {
	return s.Spec.Type != corev1.ServiceTypeExternalName
}

func needsNodePort(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// mayHaveNodePort says of a LoadBalancer that it may keep node ports even when it
// asks for none.
func mayHaveNodePort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func headless(s *corev1.Service) bool { return s.Spec.ClusterIP == corev1.ClusterIPNone }

// carryAllocated fills in what a client left out of an update because it does not
// know it: the allocated addresses and ports.
func carryAllocated(s, old *corev1.Service) {
	if needsClusterIP(old) && needsClusterIP(s) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIPs = old.Spec.ClusterIPs
		}
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = old.Spec.IPFamilies
		}
	}
	if needsNodePort(old) && needsNodePort(s) {
		carryNodePorts(s, old)
	}
	if needsHealthPort(old) && needsHealthPort(s) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// carryNodePorts gives ports without a node port the one that the same port had,
// unless another port of the service asks for it now.
func carryNodePorts(s, old *corev1.Service) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	type asked struct {
		protocol corev1.Protocol
		nodePort int32
	}
	had, wanted := map[key]int32{}, map[asked]bool{}
	for _, p := range old.Spec.Ports {
		had[key{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			wanted[asked{p.Protocol, p.NodePort}] = true
		}
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if nodePort := had[key{p.Protocol, p.Port}]; p.NodePort == 0 && nodePort != 0 && !wanted[asked{p.Protocol, nodePort}] {
			p.NodePort = nodePort
		}
	}
}

// alignClusterIPs keeps clusterIP and clusterIPs the same when a client sets one
// of them; old is nil at creation. What cannot be meant is left to validation.
func alignClusterIPs(s, old *corev1.Service) {
	if old == nil {
		if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		}
		return
	}
	sameOne := s.Spec.ClusterIP == old.Spec.ClusterIP
	sameAll := len(s.Spec.ClusterIPs) == len(old.Spec.ClusterIPs)
	for i := 0; sameAll && i < len(s.Spec.ClusterIPs); i++ {
		sameAll = s.Spec.ClusterIPs[i] == old.Spec.ClusterIPs[i]
	}
	switch {
	case !sameOne && sameAll:
		// Only the old field changed: the new one follows.
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIPs = nil
		} else if len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] != s.Spec.ClusterIP {
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		}
	case sameOne && !sameAll && len(s.Spec.ClusterIPs) > 0:
		if len(old.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] != old.Spec.ClusterIPs[0] {
			s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
		}
	}
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// completeFamilies sets the address families of a cluster that has IPv4 only.
func completeFamilies(s *corev1.Service) {
	if !needsClusterIP(s) {
		s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = nil, nil
		return
	}
	selectorless := headless(s) && len(s.Spec.Selector) == 0
	if s.Spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if selectorless {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		s.Spec.IPFamilyPolicy = &policy
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	// Who writes the endpoints of a headless service without selector may
	// write any family's.
	if selectorless && len(s.Spec.IPFamilies) == 1 && *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		other := corev1.IPv6Protocol
		if s.Spec.IPFamilies[0] == other {
			other = corev1.IPv4Protocol
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, other)
	}
}

// serviceUpdate wipes the fields that went with the old type, when the type
// changes and the client left them as they were.
func serviceUpdate(_ context.Context, obj, before runtime.Object) {
	s, old := obj.(*corev1.Service), before.(*corev1.Service)
	if needsClusterIP(old) && !needsClusterIP(s) {
		if s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = nil, nil
	}
	if mayHaveNodePort(old) && !mayHaveNodePort(s) && sameNodePorts(s, old) {
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	}
	if needsHealthPort(old) && !needsHealthPort(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	balances := func(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }
	if balances(old) && !balances(s) {
		if samePointer(s.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
			s.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if samePointer(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			s.Spec.LoadBalancerClass = nil
		}
	}
	outside := func(s *corev1.Service) bool { return mayHaveNodePort(s) || len(s.Spec.ExternalIPs) > 0 }
	if outside(old) && !outside(s) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
	if needsClusterIP(old) && !needsClusterIP(s) && samePointer(s.Spec.InternalTrafficPolicy, old.Spec.InternalTrafficPolicy) {
		s.Spec.InternalTrafficPolicy = nil
	}
}

func sameNodePorts(s, old *corev1.Service) bool {
	had := map[int32]bool{}
	for _, p := range old.Spec.Ports {
		had[p.NodePort] = true
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 && !had[p.NodePort] {
			return false
		}
	}
	return true
}

func samePointer[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
