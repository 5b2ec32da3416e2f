package overlay

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name, address, podRange string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDR: podRange},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}},
	}
}

func TestPeers(t *testing.T) {
	nodes := []*corev1.Node{
		node("c", "192.0.2.3", "10.42.2.0/24"),
		node("self", "192.0.2.1", "10.42.0.0/24"),
		node("no-range", "192.0.2.4", ""),
		node("no-address", "", "10.42.4.0/24"),
		node("b", "192.0.2.2", "10.42.1.0/24"),
		node("double", "192.0.2.9", "10.42.1.0/24"),
		node("six", "2001:db8::1", "10.42.6.0/24"),
	}
	want := "[{b 192.0.2.2 10.42.1.0/24} {c 192.0.2.3 10.42.2.0/24}]"
	if got := fmt.Sprint(Peers("self", nodes)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
