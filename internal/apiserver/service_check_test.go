package apiserver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newPools(t *testing.T) services {
	t.Helper()
	addresses, err := newAddresses(netip.MustParsePrefix("10.43.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	ports, err := newPorts(PortRange{30000, 30009})
	if err != nil {
		t.Fatal(err)
	}
	return services{addresses, ports}
}

func served(name, ip string, nodePorts ...int32) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: ip, ClusterIPs: []string{ip}},
	}
	for i, port := range nodePorts {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint(i), Port: int32(i + 1), NodePort: port})
	}
	return s
}

func TestStoredServicesAreChecked(t *testing.T) {
	a := newPools(t)
	var told []string
	first, double := served("first", "10.43.0.7", 30001, 30002, 30001), served("double", "10.43.0.7", 30002)
	for _, s := range []*corev1.Service{first, double, served("outside", "10.99.0.1", 80), served("fine", "10.43.0.8", 30003)} {
		for _, f := range a.recall(s) {
			told = append(told, f.service.Name+" "+f.reason+": "+f.message)
		}
	}
	want := []string{
		"double ClusterIPAlreadyAllocated: Cluster IP [IPv4]:10.43.0.7 was assigned to multiple services; please recreate service",
		"double PortAlreadyAllocated: Port 30002 was assigned to multiple services; please recreate service",
		"outside ClusterIPOutOfRange: Cluster IP [IPv4]: 10.99.0.1 is not within any configured Service CIDR; please recreate service",
		"outside PortOutOfRange: Port 80 is not within the port range 30000-30009; please recreate service",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told\n%q\nwant\n%q", told, want)
	}

	// What two have is free when both are gone.
	for _, test := range []struct {
		gone *corev1.Service
		free bool
	}{{first, false}, {double, true}} {
		a.afterDelete(test.gone, &metav1.DeleteOptions{})
		if taken := a.addresses.take(6); taken != test.free {
			t.Errorf("after the deletion of %s its address is free: %v", test.gone.Name, taken)
		}
	}
}

// TestLostRaces follows an update through attempts whose write lost a race.
func TestLostRaces(t *testing.T) {
	a := newPools(t)
	stored := served("web", "10.43.0.7", 30001)
	a.recall(stored)
	holds := func(what string, addresses, ports []uint32) {
		t.Helper()
		for n := range a.addresses.size {
			if a.addresses.used[n] > 0 != slices.Contains(addresses, n) {
				t.Errorf("%s: address %d is held by %d", what, n, a.addresses.used[n])
			}
		}
		for n := range a.ports.size {
			if a.ports.used[n] > 0 != slices.Contains(ports, n) {
				t.Errorf("%s: port %d is held by %d", what, n, a.ports.used[n])
			}
		}
	}
	last := &attempt{}
	ctx := context.WithValue(t.Context(), attemptKey{}, last)
	try := func(s, old *corev1.Service) {
		t.Helper()
		finish, err := a.allocate(ctx, s, old, false)
		if err != nil {
			t.Fatal(err)
		}
		finish(ctx, true)
	}

	// Made by PUT, it finds at the second attempt that another has made it.
	try(served("web", "10.43.0.9", 30005), nil)
	holds("before the write", []uint32{6, 8}, []uint32{1, 5})
	try(served("web", "10.43.0.7", 30001), stored)
	holds("after a lost race", []uint32{6}, []uint32{1})

	// A port that is given up stays held until that is written; one that is asked
	// for is there at every attempt.
	try(served("web", "10.43.0.7", 30006), stored)
	try(served("web", "10.43.0.7", 30006), stored)
	holds("before the write", []uint32{6}, []uint32{1, 6})
	a.release(last.spare)
	holds("after the write", []uint32{6}, []uint32{6})
}
