package apiserver_test

import (
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEndpointSlicesKeepNoTopology(t *testing.T) {
	client, _ := start(t)
	slices := client.DiscoveryV1().EndpointSlices("default")
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{
		{Addresses: []string{"10.0.0.1"}, DeprecatedTopology: map[string]string{"topology.kubernetes.io/zone": "a"}},
	}}
	made := must[*discoveryv1.EndpointSlice](t)(slices.Create(t.Context(), slice, metav1.CreateOptions{}))
	made.Endpoints[0].Addresses[0], made.Endpoints[0].DeprecatedTopology = "10.0.0.2", map[string]string{"x": "y"}
	changed := must[*discoveryv1.EndpointSlice](t)(slices.Update(t.Context(), made.DeepCopy(), metav1.UpdateOptions{}))
	for what, s := range map[string]*discoveryv1.EndpointSlice{"made": must[*discoveryv1.EndpointSlice](t)(slices.Get(t.Context(), "s", metav1.GetOptions{})), "changed": changed} {
		if s.Endpoints[0].DeprecatedTopology != nil || s.Endpoints[0].Addresses[0] != "10.0.0.2" || s.Generation != 2 {
			t.Errorf("%s: %+v, generation %d", what, s.Endpoints[0], s.Generation)
		}
	}
}
