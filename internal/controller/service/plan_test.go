package service

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
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

// TestTwoOfAPort: of two Services with one port the older has the nodes' addresses, and
// the other is told; once the older goes, it has them.
func TestTwoOfAPort(t *testing.T) {
	balancer := func(name string, made int64, ports ...int32) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.Unix(made, 0)}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
		for _, port := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: port, Protocol: corev1.ProtocolTCP})
		}
		return s
	}
	there := node(corev1.ConditionTrue, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.1"})
	there.Name = "n"
	udp := balancer("udp", 9, 80)
	udp.Spec.Ports[0].Protocol = corev1.ProtocolUDP
	theirs := balancer("theirs", 0, 80)
	theirs.Spec.LoadBalancerClass = ptr.To("example.com/lb")
	c := fake.NewClientBuilder().WithStatusSubresource(&corev1.Service{}).
		WithObjects(&there, balancer("a-later", 2, 443, 80), balancer("first", 1, 80), balancer("another", 3, 443), udp, theirs).Build()
	recorder := record.NewFakeRecorder(9)
	r := &reconciler{client: c, recorder: recorder}
	has := func(name string) bool {
		t.Helper()
		key := client.ObjectKey{Namespace: "default", Name: name}
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			t.Fatal(err)
		}
		var s corev1.Service
		if err := c.Get(t.Context(), key, &s); err != nil {
			t.Fatal(err)
		}
		return len(s.Status.LoadBalancer.Ingress) > 0
	}
	for name, want := range map[string]bool{"first": true, "a-later": false, "another": true, "udp": true} {
		if got := has(name); got != want {
			t.Errorf("Service %s has the node's address: %t, want %t", name, got, want)
		}
	}
	told := ""
	for len(recorder.Events) > 0 {
		if e := <-recorder.Events; strings.HasPrefix(e, "Warning") {
			told += e
		}
	}
	const want = "Warning SyncLoadBalancerFailed Error syncing load balancer: failed to ensure load balancer: port 80/TCP of the nodes' addresses is that of Service default/first: give one of the two another port"
	if told != want {
		t.Errorf("told %q, want %q", told, want)
	}
	if err := c.Delete(t.Context(), balancer("first", 1, 80)); err != nil {
		t.Fatal(err)
	}
	if !has("a-later") {
		t.Error("a Service does not have the node's address though the other with its port is gone")
	}
}
