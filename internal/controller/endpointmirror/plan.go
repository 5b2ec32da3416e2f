package endpointmirror

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
)

const (
	// managedBy is the value of discoveryv1.LabelManagedBy on our slices, Kubernetes' own.
	managedBy = "endpointslicemirroring-controller.k8s.io"

	// limit is how many addresses of a set of ports are mirrored; a slice holds no more.
	limit = 1000

	// leaderAnnotation marks Endpoints that are no endpoints but a lock.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

// work is what brings the slices of one Service in line with its Endpoints.
type work struct {
	write  []*discoveryv1.EndpointSlice // to create or update, as they should be
	remove []*discoveryv1.EndpointSlice
}

// mirrored reports whether Endpoints are to have slices: they belong to a Service
// without a selector, and nobody has asked otherwise.
func mirrored(service *corev1.Service, endpoints *corev1.Endpoints) bool {
	if service == nil || endpoints == nil || service.DeletionTimestamp != nil || endpoints.DeletionTimestamp != nil {
		return false
	}
	_, lock := endpoints.Annotations[leaderAnnotation]
	return len(service.Spec.Selector) == 0 && service.Spec.Type != corev1.ServiceTypeExternalName &&
		!lock && endpoints.Labels[discoveryv1.LabelSkipMirror] != "true"
}

// plan returns the writes that are left to do. existing are the slices that have
// the Service's name and our mark. A nil Service or Endpoints is one that is gone.
func plan(service *corev1.Service, endpoints *corev1.Endpoints, existing []discoveryv1.EndpointSlice) work {
	want := map[string]*discoveryv1.EndpointSlice{}
	if mirrored(service, endpoints) {
		for _, slice := range desired(endpoints) {
			want[slice.Name] = slice
		}
	}
	var w work
	for i := range existing {
		have := &existing[i]
		slice := want[have.Name]
		switch {
		case slice == nil:
			w.remove = append(w.remove, have)
		case same(have, slice):
			delete(want, have.Name)
		default:
			slice.ResourceVersion = have.ResourceVersion
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w.write = append(w.write, want[name])
	}
	return w
}

func same(have, want *discoveryv1.EndpointSlice) bool {
	return equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(have.Ports, want.Ports) &&
		equality.Semantic.DeepEqual(have.Labels, want.Labels) && equality.Semantic.DeepEqual(have.Annotations, want.Annotations) &&
		equality.Semantic.DeepEqual(have.OwnerReferences, want.OwnerReferences)
}

// desired returns a slice for each set of ports and each address family.
func desired(endpoints *corev1.Endpoints) []*discoveryv1.EndpointSlice {
	var list []*discoveryv1.EndpointSlice
	for i := range endpoints.Subsets {
		subset := &endpoints.Subsets[i]
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			slice := empty(endpoints, subset.Ports, family)
			add(slice, subset.Addresses, true)
			add(slice, subset.NotReadyAddresses, false)
			if len(slice.Endpoints) == 0 {
				continue
			}
			if twin := slices.IndexFunc(list, func(s *discoveryv1.EndpointSlice) bool { return s.Name == slice.Name }); twin >= 0 {
				list[twin].Endpoints = append(list[twin].Endpoints, slice.Endpoints...)
				continue
			}
			list = append(list, slice)
		}
	}
	for _, slice := range list {
		slice.Endpoints = slice.Endpoints[:min(limit, len(slice.Endpoints))]
	}
	return list
}

func empty(endpoints *corev1.Endpoints, ports []corev1.EndpointPort, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       endpoints.Namespace,
			Name:            sliceName(endpoints.Name, ports, family),
			Labels:          maps.Clone(endpoints.Labels),
			Annotations:     maps.Clone(endpoints.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(endpoints, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: family,
	}
	if slice.Labels == nil {
		slice.Labels = map[string]string{}
	}
	slice.Labels[discoveryv1.LabelServiceName] = endpoints.Name
	slice.Labels[discoveryv1.LabelManagedBy] = managedBy
	delete(slice.Annotations, corev1.LastAppliedConfigAnnotation)
	delete(slice.Annotations, corev1.EndpointsLastChangeTriggerTime)
	for _, port := range ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{
			Name: ptr.To(port.Name), Port: ptr.To(port.Port), Protocol: ptr.To(cmp.Or(port.Protocol, corev1.ProtocolTCP)), AppProtocol: port.AppProtocol,
		})
	}
	return slice
}

// sliceName is the same for the same Endpoints, ports and family, and another
// for others.
func sliceName(name string, ports []corev1.EndpointPort, family discoveryv1.AddressType) string {
	hash := fnv.New64a()
	_ = json.NewEncoder(hash).Encode(struct {
		Ports  []corev1.EndpointPort
		Family discoveryv1.AddressType
	}{ports, family}) // neither has what cannot be encoded, and a hash takes all
	return fmt.Sprintf("%s-%s", name, rand.SafeEncodeString(fmt.Sprint(hash.Sum64())))
}

// add appends those addresses that are of the slice's family.
func add(slice *discoveryv1.EndpointSlice, addresses []corev1.EndpointAddress, ready bool) {
	for i := range addresses {
		a := &addresses[i]
		ip, err := netip.ParseAddr(a.IP)
		if err != nil || ip.Is4() != (slice.AddressType == discoveryv1.AddressTypeIPv4) {
			continue
		}
		endpoint := discoveryv1.Endpoint{
			Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(ready)},
			NodeName: a.NodeName, TargetRef: a.TargetRef,
		}
		if a.Hostname != "" {
			endpoint.Hostname = ptr.To(a.Hostname)
		}
		slice.Endpoints = append(slice.Endpoints, endpoint)
	}
}
