package endpoints

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// limit is how many addresses an Endpoints object holds; one with more is cut
// and says so in an annotation, as in Kubernetes.
const limit = 1000

// desired returns the Endpoints that a Service's slices amount to: one subset
// for each set of ports, ready addresses apart from those that are not, and
// terminating ones in neither.
func desired(service *corev1.Service, endpointSlices []discoveryv1.EndpointSlice) *corev1.Endpoints { // the legacy kind is this package's purpose
	endpoints := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   service.Namespace,
			Name:        service.Name,
			Labels:      map[string]string{},
			Annotations: map[string]string{},
		},
	}
	for name, value := range service.Labels {
		endpoints.Labels[name] = value
	}
	endpoints.Labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller"
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		endpoints.Labels[corev1.IsHeadlessService] = ""
	}
	sorted := slices.Clone(endpointSlices)
	slices.SortFunc(sorted, func(a, b discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	room := limit
	for i := range sorted {
		subset, cut := subsetOf(&sorted[i], room)
		if cut {
			endpoints.Annotations[corev1.EndpointsOverCapacity] = "truncated"
		}
		if n := len(subset.Addresses) + len(subset.NotReadyAddresses); n > 0 {
			room -= n
			endpoints.Subsets = append(endpoints.Subsets, subset)
		}
	}
	return endpoints
}

// subsetOf translates one slice, at most room addresses of it, and reports
// whether that cut some off.
func subsetOf(slice *discoveryv1.EndpointSlice, room int) (subset corev1.EndpointSubset, cut bool) {
	for _, port := range slice.Ports {
		subset.Ports = append(subset.Ports, corev1.EndpointPort{
			Name: ptr.Deref(port.Name, ""), Port: ptr.Deref(port.Port, 0),
			Protocol: ptr.Deref(port.Protocol, corev1.ProtocolTCP), AppProtocol: port.AppProtocol,
		})
	}
	for _, endpoint := range slice.Endpoints {
		if ptr.Deref(endpoint.Conditions.Terminating, false) && !ptr.Deref(endpoint.Conditions.Ready, false) || len(endpoint.Addresses) == 0 {
			continue
		}
		if room == 0 {
			return subset, true
		}
		room--
		address := corev1.EndpointAddress{
			IP: endpoint.Addresses[0], Hostname: ptr.Deref(endpoint.Hostname, ""),
			NodeName: endpoint.NodeName, TargetRef: endpoint.TargetRef,
		}
		if ptr.Deref(endpoint.Conditions.Ready, true) {
			subset.Addresses = append(subset.Addresses, address)
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
		}
	}
	byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
	slices.SortFunc(subset.Addresses, byIP)
	slices.SortFunc(subset.NotReadyAddresses, byIP)
	return subset, false
}
