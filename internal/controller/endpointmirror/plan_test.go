package endpointmirror

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func addresses(ips ...string) (list []corev1.EndpointAddress) {
	for _, ip := range ips {
		list = append(list, corev1.EndpointAddress{IP: ip})
	}
	return list
}

func handMade() (*corev1.Service, *corev1.Endpoints) {
	meta := metav1.ObjectMeta{Namespace: "default", Name: "db", UID: "u"}
	endpoints := &corev1.Endpoints{ObjectMeta: meta, Subsets: []corev1.EndpointSubset{
		{Addresses: addresses("192.0.2.1", "2001:db8::1"), NotReadyAddresses: addresses("192.0.2.2"), Ports: []corev1.EndpointPort{{Name: "sql", Port: 5432}}},
		{Addresses: addresses("192.0.2.3"), Ports: []corev1.EndpointPort{{Name: "sql", Port: 5433, Protocol: corev1.ProtocolTCP}}},
	}}
	endpoints.Labels = map[string]string{"team": "a"}
	endpoints.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "keep": "me"}
	return &corev1.Service{ObjectMeta: meta}, endpoints
}

// told prints slices without their names, which are hashes.
func told(list []*discoveryv1.EndpointSlice) string {
	var lines []string
	for _, s := range list {
		line := fmt.Sprintf("%s %s=%d/%s", s.AddressType, *s.Ports[0].Name, *s.Ports[0].Port, *s.Ports[0].Protocol)
		for _, e := range s.Endpoints {
			line += fmt.Sprintf(" %s:%t", e.Addresses[0], *e.Conditions.Ready)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestDesired(t *testing.T) {
	_, endpoints := handMade()
	list := desired(endpoints)
	want := "IPv4 sql=5432/TCP 192.0.2.1:true 192.0.2.2:false\nIPv6 sql=5432/TCP 2001:db8::1:true\nIPv4 sql=5433/TCP 192.0.2.3:true"
	if got := told(list); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	names := map[string]bool{}
	for _, s := range list {
		names[s.Name] = true
		if s.Labels["team"] != "a" || s.Labels[discoveryv1.LabelServiceName] != "db" || s.Labels[discoveryv1.LabelManagedBy] != managedBy {
			t.Errorf("labels %v", s.Labels)
		}
		if len(s.Annotations) != 1 || s.Annotations["keep"] != "me" {
			t.Errorf("annotations %v, want those of the Endpoints without kubectl's", s.Annotations)
		}
		if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].Kind != "Endpoints" || s.OwnerReferences[0].UID != "u" {
			t.Errorf("owners %v", s.OwnerReferences)
		}
	}
	if len(names) != 3 {
		t.Errorf("%d names for three slices: %v", len(names), names)
	}
}

func TestOverCapacity(t *testing.T) {
	endpoints := &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{}}}
	for i := range limit + 1 {
		endpoints.Subsets[0].Addresses = append(endpoints.Subsets[0].Addresses, addresses(fmt.Sprintf("192.0.%d.%d", i/250, i%250))...)
	}
	if list := desired(endpoints); len(list) != 1 || len(list[0].Endpoints) != limit {
		t.Errorf("%d slices, the first with %d endpoints; want one with %d", len(list), len(list[0].Endpoints), limit)
	}
}

func TestPlan(t *testing.T) {
	service, endpoints := handMade()
	var stored []discoveryv1.EndpointSlice
	for _, s := range desired(endpoints) {
		s.ResourceVersion = "7"
		stored = append(stored, *s)
	}
	clone := func(change func(*corev1.Service, *corev1.Endpoints)) (*corev1.Service, *corev1.Endpoints) {
		s, e := service.DeepCopy(), endpoints.DeepCopy()
		change(s, e)
		return s, e
	}
	for _, test := range []struct {
		name          string
		change        func(*corev1.Service, *corev1.Endpoints)
		existing      []discoveryv1.EndpointSlice
		write, remove int
	}{
		{"the first time", func(*corev1.Service, *corev1.Endpoints) {}, nil, 3, 0},
		{"nothing new", func(*corev1.Service, *corev1.Endpoints) {}, stored, 0, 0},
		{"another address", func(_ *corev1.Service, e *corev1.Endpoints) { e.Subsets[1].Addresses[0].IP = "192.0.2.9" }, stored, 1, 0},
		{"another port", func(_ *corev1.Service, e *corev1.Endpoints) { e.Subsets[1].Ports[0].Port = 1 }, stored, 1, 1},
		{"a label", func(_ *corev1.Service, e *corev1.Endpoints) { e.Labels["team"] = "b" }, stored, 3, 0},
		{"a selector", func(s *corev1.Service, _ *corev1.Endpoints) { s.Spec.Selector = map[string]string{"a": "b"} }, stored, 0, 3},
		{"asked not to", func(_ *corev1.Service, e *corev1.Endpoints) { e.Labels[discoveryv1.LabelSkipMirror] = "true" }, stored, 0, 3},
		{"a lock", func(_ *corev1.Service, e *corev1.Endpoints) { e.Annotations[leaderAnnotation] = "{}" }, stored, 0, 3},
		{"being deleted", func(s *corev1.Service, _ *corev1.Endpoints) { s.DeletionTimestamp = ptr.To(metav1.Now()) }, stored, 0, 3},
	} {
		s, e := clone(test.change)
		w := plan(s, e, test.existing)
		if len(w.write) != test.write || len(w.remove) != test.remove {
			t.Errorf("%s: writes %d, removes %d; want %d and %d", test.name, len(w.write), len(w.remove), test.write, test.remove)
		}
		for _, slice := range w.write {
			if known := len(test.existing) > 0 && test.name != "another port"; known != (slice.ResourceVersion == "7") {
				t.Errorf("%s: slice %s is written at version %q", test.name, slice.Name, slice.ResourceVersion)
			}
		}
	}
	if w := plan(nil, endpoints, stored); len(w.remove) != 3 {
		t.Errorf("without the Service: removes %d, want all", len(w.remove))
	}
	if w := plan(service, nil, stored); len(w.remove) != 3 {
		t.Errorf("without the Endpoints: removes %d, want all", len(w.remove))
	}
}
