package apiserver_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	applyv1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/internal/apiserver"
	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

func nodePortService(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": name},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "dns", Port: 53}, {Name: "dns-udp", Port: 53, Protocol: corev1.ProtocolUDP}},
		},
	}
}

func TestServiceIsAllocated(t *testing.T) {
	client, _ := start(t)
	services := client.CoreV1().Services("default")
	made := must[*corev1.Service](t)(services.Create(t.Context(), nodePortService("web"), metav1.CreateOptions{}))
	if !strings.HasPrefix(made.Spec.ClusterIP, "10.43.") || !slices.Equal(made.Spec.ClusterIPs, []string{made.Spec.ClusterIP}) {
		t.Errorf("addresses %s and %v", made.Spec.ClusterIP, made.Spec.ClusterIPs)
	}
	if !slices.Equal(made.Spec.IPFamilies, []corev1.IPFamily{corev1.IPv4Protocol}) || *made.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		t.Errorf("families %v by %v", made.Spec.IPFamilies, *made.Spec.IPFamilyPolicy)
	}
	ports := made.Spec.Ports
	if ports[0].NodePort < 30000 || ports[0].NodePort > 32767 || ports[0].NodePort == ports[1].NodePort || ports[1].NodePort != ports[2].NodePort {
		t.Errorf("node ports %d, %d, %d: want two, one shared by the protocols of port 53", ports[0].NodePort, ports[1].NodePort, ports[2].NodePort)
	}

	// An update without the allocated fields keeps them.
	again := nodePortService("web")
	again.Spec.Ports = again.Spec.Ports[:2]
	kept := must[*corev1.Service](t)(services.Update(t.Context(), again, metav1.UpdateOptions{}))
	if kept.Spec.ClusterIP != made.Spec.ClusterIP || kept.Spec.Ports[0].NodePort != ports[0].NodePort {
		t.Errorf("the update changed %s:%d to %s:%d", made.Spec.ClusterIP, ports[0].NodePort, kept.Spec.ClusterIP, kept.Spec.Ports[0].NodePort)
	}

	// As a ClusterIP service it loses its node ports, as ExternalName also its address.
	kept.Spec.Type = corev1.ServiceTypeClusterIP
	plain := must[*corev1.Service](t)(services.Update(t.Context(), kept, metav1.UpdateOptions{}))
	if plain.Spec.Ports[0].NodePort != 0 || plain.Spec.ExternalTrafficPolicy != "" || plain.Spec.ClusterIP != made.Spec.ClusterIP {
		t.Errorf("as ClusterIP: %+v", plain.Spec)
	}
	plain.Spec.Type, plain.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.org"
	name := must[*corev1.Service](t)(services.Update(t.Context(), plain, metav1.UpdateOptions{}))
	if name.Spec.ClusterIP != "" || len(name.Spec.ClusterIPs) != 0 || len(name.Spec.IPFamilies) != 0 {
		t.Errorf("as ExternalName: %+v", name.Spec)
	}

	// What it had is free again.
	other := nodePortService("other")
	other.Spec.ClusterIP, other.Spec.Ports[0].NodePort = made.Spec.ClusterIP, ports[0].NodePort
	must[*corev1.Service](t)(services.Create(t.Context(), other, metav1.CreateOptions{}))
}

func TestServiceRequestsAreHonouredOrRefused(t *testing.T) {
	client, _ := start(t)
	services := client.CoreV1().Services("default")
	first := nodePortService("first")
	first.Spec.ClusterIP, first.Spec.Ports[0].NodePort = "10.43.0.77", 30080
	made := must[*corev1.Service](t)(services.Create(t.Context(), first, metav1.CreateOptions{}))
	if made.Spec.ClusterIP != "10.43.0.77" || made.Spec.Ports[0].NodePort != 30080 {
		t.Fatalf("got %s:%d", made.Spec.ClusterIP, made.Spec.Ports[0].NodePort)
	}
	dual := corev1.IPFamilyPolicyRequireDualStack
	for name, test := range map[string]struct {
		change func(*corev1.Service)
		want   string
	}{
		"address taken":       {func(s *corev1.Service) { s.Spec.ClusterIP = "10.43.0.77" }, "spec.clusterIPs[0]: Invalid value: \"10.43.0.77\": failed to allocate IP 10.43.0.77: provided IP is already allocated"},
		"address outside":     {func(s *corev1.Service) { s.Spec.ClusterIP = "10.99.0.1" }, "spec.clusterIPs[0]: Invalid value: \"10.99.0.1\": failed to allocate IP 10.99.0.1: the provided IP (10.99.0.1) is not in the valid range. The range of valid IPs is 10.43.0.0/16"},
		"the range's last":    {func(s *corev1.Service) { s.Spec.ClusterIP = "10.43.255.255" }, "not in the valid range"},
		"port taken":          {func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30080 }, "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"},
		"port outside":        {func(s *corev1.Service) { s.Spec.Ports[1].NodePort = 80 }, "spec.ports[1].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"},
		"two families":        {func(s *corev1.Service) { s.Spec.IPFamilyPolicy = &dual }, "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"},
		"the other family":    {func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }, "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"},
		"port and then bad":   {func(s *corev1.Service) { s.Spec.Ports[0].NodePort, s.Spec.SessionAffinity = 30099, "Sometimes" }, "spec.sessionAffinity"},
		"nothing is retained": {func(s *corev1.Service) { s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = 30099, 30080 }, "provided port is already allocated"},
	} {
		t.Run(name, func(t *testing.T) {
			s := nodePortService("second")
			test.change(s)
			_, err := services.Create(t.Context(), s, metav1.CreateOptions{})
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	// A refused service has left nothing behind.
	last := nodePortService("last")
	last.Spec.Ports[0].NodePort = 30099
	must[*corev1.Service](t)(services.Create(t.Context(), last, metav1.CreateOptions{}))
}

func TestServiceDryRunAllocatesNothing(t *testing.T) {
	client, _ := start(t)
	services := client.CoreV1().Services("default")
	s := nodePortService("dry")
	s.Spec.ClusterIP, s.Spec.Ports[0].NodePort = "10.43.0.9", 30009
	for range 2 {
		must[*corev1.Service](t)(services.Create(t.Context(), s, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}))
	}
	must[*corev1.Service](t)(services.Create(t.Context(), s, metav1.CreateOptions{}))
	if err := services.Delete(t.Context(), "dry", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Fatal(err)
	}
	s.Name = "other"
	if _, err := services.Create(t.Context(), s, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a dry deletion freed the address: %v", err)
	}
	if err := services.Delete(t.Context(), "dry", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	must[*corev1.Service](t)(services.Create(t.Context(), s, metav1.CreateOptions{}))
}

func TestHeadlessServices(t *testing.T) {
	client, _ := start(t)
	services := client.CoreV1().Services("default")
	for _, test := range []struct {
		selector map[string]string
		policy   corev1.IPFamilyPolicy
		families int
	}{
		{map[string]string{"a": "b"}, corev1.IPFamilyPolicySingleStack, 1},
		{nil, corev1.IPFamilyPolicyRequireDualStack, 2},
	} {
		s := must[*corev1.Service](t)(services.Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "headless-"},
			Spec:       corev1.ServiceSpec{ClusterIP: "None", Selector: test.selector, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt(8080)}}},
		}, metav1.CreateOptions{}))
		if s.Spec.ClusterIPs[0] != "None" || *s.Spec.IPFamilyPolicy != test.policy || len(s.Spec.IPFamilies) != test.families {
			t.Errorf("selector %v: %v, %v, %v", test.selector, s.Spec.ClusterIPs, *s.Spec.IPFamilyPolicy, s.Spec.IPFamilies)
		}
	}
}

func TestServiceClusterIPIsImmutable(t *testing.T) {
	client, _ := start(t)
	services := client.CoreV1().Services("default")
	must[*corev1.Service](t)(services.Create(t.Context(), nodePortService("fixed"), metav1.CreateOptions{}))
	_, err := services.Patch(t.Context(), "fixed", types.MergePatchType, []byte(`{"spec":{"clusterIP":"10.43.0.200"}}`), metav1.PatchOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "may not change once set") {
		t.Errorf("got %v", err)
	}
	// The refused address was not kept.
	s := nodePortService("late")
	s.Spec.ClusterIP = "10.43.0.200"
	must[*corev1.Service](t)(services.Create(t.Context(), s, metav1.CreateOptions{}))
}

// TestServicesRaceForTheirName: what the losers of a race took is free again.
func TestServicesRaceForTheirName(t *testing.T) {
	server := apiservertest.StartWith(t, t.TempDir(), func(c *apiserver.Config) {
		c.ServiceRange, c.NodePorts = netip.MustParsePrefix("10.43.0.0/29"), apiserver.PortRange{First: 30000, Last: 30004}
	})
	services := kubernetes.NewForConfigOrDie(server.Config).CoreV1().Services("default")
	for round := range 20 {
		var racers sync.WaitGroup
		for racer := range 4 {
			racers.Go(func() {
				wanted := applyv1.Service("raced", "default").WithSpec(applyv1.ServiceSpec().
					WithType(corev1.ServiceTypeNodePort).WithPorts(applyv1.ServicePort().WithPort(80)))
				_, err := services.Apply(t.Context(), wanted, metav1.ApplyOptions{FieldManager: fmt.Sprint("racer-", racer)})
				if err != nil && !apierrors.IsConflict(err) {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		racers.Wait()
		if err := services.Delete(t.Context(), "raced", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestServiceFaultsAreTold: a server whose port range has changed tells of the
// services outside.
func TestServiceFaultsAreTold(t *testing.T) {
	dir := t.TempDir()
	server := apiservertest.StartIn(t, dir)
	s := nodePortService("web")
	s.Spec.Ports[0].NodePort = 30080
	must[*corev1.Service](t)(kubernetes.NewForConfigOrDie(server.Config).CoreV1().Services("default").Create(t.Context(), s, metav1.CreateOptions{}))
	for range 2 {
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
		server = apiservertest.StartWith(t, dir, func(c *apiserver.Config) { c.NodePorts = apiserver.PortRange{First: 30081, Last: 32767} })
	}
	events := must[*corev1.EventList](t)(kubernetes.NewForConfigOrDie(server.Config).CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=PortOutOfRange"}))
	if len(events.Items) != 1 || events.Items[0].InvolvedObject.Name != "web" || !strings.Contains(events.Items[0].Message, "Port 30080 is not within the port range 30081-32767") {
		t.Errorf("events: %+v", events.Items)
	}
}
