package endpoints

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func endpoint(ip string, ready, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Terminating: &terminating}}
}

func TestDesired(t *testing.T) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}}}
	got := desired(service, []discoveryv1.EndpointSlice{{
		Ports:     []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](80)}},
		Endpoints: []discoveryv1.Endpoint{endpoint("10.42.0.3", true, false), endpoint("10.42.0.2", true, false), endpoint("10.42.0.4", false, false), endpoint("10.42.0.5", false, true)},
	}})
	var text strings.Builder
	for _, subset := range got.Subsets {
		for _, a := range subset.Addresses {
			fmt.Fprintf(&text, "%s ", a.IP)
		}
		text.WriteString("not ready")
		for _, a := range subset.NotReadyAddresses {
			fmt.Fprintf(&text, " %s", a.IP)
		}
		fmt.Fprintf(&text, " port %s=%d/%s", subset.Ports[0].Name, subset.Ports[0].Port, subset.Ports[0].Protocol)
	}
	if want := "10.42.0.2 10.42.0.3 not ready 10.42.0.4 port http=80/TCP"; text.String() != want {
		t.Errorf("%s, want %s", text.String(), want)
	}
	if got.Labels["app"] != "web" {
		t.Errorf("labels %v lack the Service's", got.Labels)
	}
}

func TestOverCapacity(t *testing.T) {
	var slice discoveryv1.EndpointSlice
	for i := range limit + 1 {
		slice.Endpoints = append(slice.Endpoints, endpoint(fmt.Sprintf("10.42.%d.%d", i/250, i%250), true, false))
	}
	got := desired(&corev1.Service{}, []discoveryv1.EndpointSlice{slice})
	if n := len(got.Subsets[0].Addresses); n != limit || got.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("%d addresses, annotations %v; want %d and it said that some are missing", n, got.Annotations, limit)
	}
}
