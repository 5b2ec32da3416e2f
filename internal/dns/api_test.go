package dns

import (
	"net/netip"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"windlass.dev/windlass/internal/controller/controllertest"
)

// TestAgainstAPI: the names follow the API, and the Service kube-dns is there
// and comes back.
func TestAgainstAPI(t *testing.T) {
	const clusterIP = "10.43.0.10"
	s := newServer(Config{
		NodeName:     "n1",
		Address:      netip.MustParseAddr("127.0.0.1"),
		ClusterIP:    netip.MustParseAddr(clusterIP),
		PodRange:     netip.MustParsePrefix("10.42.0.0/16"),
		ServiceRange: netip.MustParsePrefix("10.43.0.0/16"),
		Resolvers:    filepath.Join(t.TempDir(), "none"),
	})
	if err := s.listen(0); err != nil {
		t.Fatal(err)
	}
	c := controllertest.Start(t, func(mgr ctrl.Manager) error {
		s.config.Client, s.config.Cache = mgr.GetClient(), mgr.GetCache()
		published := s.config
		published.Address = netip.MustParseAddr("10.42.0.1") // loopback is no endpoint
		s.publisher = newPublisher(published, 53, 5353)
		return mgr.Add(manager.RunnableFunc(s.Run))
	})
	ctx := t.Context()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	becomes := func(kind, name, want string) {
		t.Helper()
		var got string
		controllertest.Eventually(t, name+" is "+want, func() bool {
			got = summary(ask(t, s, "udp", kind, name))
			return got == want
		})
	}
	published := func() bool {
		var service corev1.Service
		var slice discoveryv1.EndpointSlice
		if c.Get(ctx, dnsService, &service) != nil || c.Get(ctx, types.NamespacedName{Namespace: "kube-system", Name: "kube-dns-n1"}, &slice) != nil {
			return false
		}
		return service.Spec.ClusterIP == clusterIP && metav1.IsControlledBy(&slice, &service) == false &&
			len(slice.OwnerReferences) == 1 && slice.OwnerReferences[0].UID == service.UID &&
			len(slice.Endpoints) == 1 && slice.Endpoints[0].Addresses[0] == "10.42.0.1" && *slice.Endpoints[0].NodeName == "n1" &&
			len(slice.Ports) == 2 && *slice.Ports[0].Port == 53 && *slice.Ports[1].Port == 5353
	}
	controllertest.Eventually(t, "kube-dns is published", published)
	becomes("A", "kube-dns.kube-system.svc.cluster.local", "NOERROR "+clusterIP)
	becomes("PTR", "10.0.43.10.in-addr.arpa", "NOERROR kube-dns.kube-system.svc.cluster.local.")
	becomes("A", "kubernetes.default.svc.cluster.local", "NOERROR 10.43.0.1")

	// Both come back, and what was changed is mended.
	do(c.Delete(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns"}}))
	controllertest.Eventually(t, "kube-dns is published again", published)
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns-n1"}}
	do(c.Delete(ctx, slice))
	controllertest.Eventually(t, "the slice is published again", published)
	do(c.Patch(ctx, slice, client.RawPatch(types.JSONPatchType, []byte(`[{"op":"remove","path":"/endpoints/0"}]`))))
	controllertest.Eventually(t, "the slice is mended", published)

	// A Service comes, changes and goes.
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"},
		Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}}}}
	do(c.Create(ctx, service))
	endpoints := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "db-1", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.42.0.7"}, Hostname: ptr.To("db-0")}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("sql"), Port: ptr.To[int32](5432)}},
	}
	do(c.Create(ctx, endpoints))
	becomes("A", "db-0.db.default.svc.cluster.local", "NOERROR 10.42.0.7")
	becomes("SRV", "_sql._tcp.db.default.svc.cluster.local", "NOERROR 0 100 5432 db-0.db.default.svc.cluster.local.")
	endpoints.Endpoints[0].Conditions.Ready = ptr.To(false)
	do(c.Update(ctx, endpoints))
	becomes("A", "db-0.db.default.svc.cluster.local", "NXDOMAIN")
	endpoints.Endpoints[0].Conditions.Ready = nil
	do(c.Update(ctx, endpoints))
	becomes("A", "db-0.db.default.svc.cluster.local", "NOERROR 10.42.0.7")
	endpoints.Labels[discoveryv1.LabelServiceName] = "other"
	do(c.Update(ctx, endpoints))
	do(c.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}, Spec: corev1.ServiceSpec{ClusterIP: "None"}}))
	becomes("A", "db-0.other.default.svc.cluster.local", "NOERROR 10.42.0.7")
	becomes("A", "db.default.svc.cluster.local", "NXDOMAIN")
	do(c.Delete(ctx, service))
	becomes("SRV", "_sql._tcp.db.default.svc.cluster.local", "NXDOMAIN")
}

// TestKubeDNSOfSomebodyElse is left alone.
func TestKubeDNSOfSomebodyElse(t *testing.T) {
	var p *publisher
	c := controllertest.Start(t, func(mgr ctrl.Manager) error {
		p = newPublisher(Config{NodeName: "n1", Address: netip.MustParseAddr("10.42.0.1"), ClusterIP: netip.MustParseAddr("10.43.0.10"), Client: mgr.GetClient()}, 53, 53)
		p.log = newServer(Config{}).config.Log
		return nil
	})
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"k8s-app": "kube-dns"}, Ports: []corev1.ServicePort{{Port: 53}}}}
	if err := c.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	p.client = c
	if err := p.publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var list discoveryv1.EndpointSliceList
	if err := c.List(t.Context(), &list, client.InNamespace("kube-system")); err != nil || len(list.Items) > 0 {
		t.Errorf("%v, slices %v", err, list.Items)
	}
}

// TestAddressTaken: who has the address of kube-dns is to be told what to do.
func TestAddressTaken(t *testing.T) {
	c := controllertest.Start(t)
	other := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.10", Ports: []corev1.ServicePort{{Port: 53}}}}
	if err := c.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(Config{NodeName: "n1", Address: netip.MustParseAddr("10.42.0.1"), ClusterIP: netip.MustParseAddr("10.43.0.10"), Client: c}, 53, 53)
	if err := p.publish(t.Context()); err == nil {
		t.Error("the address was given twice")
	} else {
		t.Log(err)
	}
}
