package hostport

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// TestOf: main containers and sidecars take ports of the node, what runs before them
// does not.
func TestOf(t *testing.T) {
	with := func(port int32, protocol corev1.Protocol) corev1.Container {
		return corev1.Container{Ports: []corev1.ContainerPort{{HostPort: port, Protocol: protocol}, {ContainerPort: 1}}}
	}
	sidecar := with(3, "")
	sidecar.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	got := Of(&corev1.Pod{Spec: corev1.PodSpec{
		Containers:     []corev1.Container{with(1, ""), with(2, corev1.ProtocolUDP)},
		InitContainers: []corev1.Container{sidecar, with(4, "")},
	}})
	want := []corev1.ContainerPort{{HostPort: 1, Protocol: "TCP"}, {HostPort: 2, Protocol: "UDP"}, {HostPort: 3, Protocol: "TCP"}}
	if len(got) != len(want) {
		t.Fatalf("it takes %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("it takes %v, want %v", got[i], want[i])
		}
	}
}

func TestConflict(t *testing.T) {
	port := func(ip string, protocol corev1.Protocol, port int32) corev1.ContainerPort {
		return corev1.ContainerPort{HostIP: ip, Protocol: protocol, HostPort: port}
	}
	for _, c := range []struct {
		a, b corev1.ContainerPort
		want bool
	}{
		{port("", "TCP", 80), port("", "TCP", 80), true},
		{port("", "TCP", 80), port("", "TCP", 81), false},
		{port("", "TCP", 80), port("", "UDP", 80), false},
		{port("0.0.0.0", "TCP", 80), port("10.0.0.1", "TCP", 80), true},
		{port("::", "TCP", 80), port("10.0.0.1", "TCP", 80), true},
		{port("10.0.0.1", "TCP", 80), port("10.0.0.1", "TCP", 80), true},
		{port("10.0.0.1", "TCP", 80), port("10.0.0.2", "TCP", 80), false},
	} {
		if Conflict(c.a, c.b) != c.want || Conflict(c.b, c.a) != c.want {
			t.Errorf("%v and %v: want %v", c.a, c.b, c.want)
		}
	}
}
