package service

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func node(ready corev1.ConditionStatus, addresses ...corev1.NodeAddress) corev1.Node {
	return corev1.Node{Status: corev1.NodeStatus{
		Addresses:  addresses,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
	}}
}

func TestIngress(t *testing.T) {
	internal := func(ip string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip}
	}
	external := func(ip string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: ip}
	}
	nodes := []corev1.Node{
		node(corev1.ConditionTrue, internal("10.0.0.2")),
		node(corev1.ConditionTrue, internal("10.0.0.1"), external("192.0.2.1")),
		node(corev1.ConditionFalse, internal("10.0.0.3")),
	}
	for _, test := range []struct {
		serviceType corev1.ServiceType
		want        string
	}{
		{corev1.ServiceTypeLoadBalancer, "[10.0.0.2 192.0.2.1]"},
		{corev1.ServiceTypeNodePort, "[]"},
	} {
		var ips []string
		for _, i := range ingress(&corev1.Service{Spec: corev1.ServiceSpec{Type: test.serviceType}}, nodes) {
			ips = append(ips, i.IP)
		}
		if got := fmt.Sprint(ips); got != test.want {
			t.Errorf("%s: %s, want %s", test.serviceType, got, test.want)
		}
	}
}
