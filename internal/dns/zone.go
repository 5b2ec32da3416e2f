package dns

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Zone is the names of a cluster: an index over its Services and EndpointSlices.
// It reads the objects that it is given and never changes them. It is not safe
// for concurrent use while it is changed.
type Zone struct {
	domain     string         // in lower case, with the dot at the end
	ranges     []netip.Prefix // addresses that no one else knows a name of
	podRange   netip.Prefix
	serial     uint32 // of the SOA: goes up with each change
	services   map[types.NamespacedName]*entry
	namespaces map[string]int                        // how many Services each has
	addresses  map[netip.Addr][]types.NamespacedName // which Services have a name for an address
}

// entry is what is known of a Service. Its slices may be known before itself.
type entry struct {
	service *corev1.Service
	slices  map[string]*discoveryv1.EndpointSlice
}

// newZone returns the zone of a cluster without Services. domain is the
// cluster's, such as "cluster.local"; of addresses in the two ranges, those
// without a name are said to have none.
func newZone(domain string, podRange, serviceRange netip.Prefix) *Zone {
	return &Zone{
		domain:     dns.CanonicalName(domain),
		ranges:     []netip.Prefix{podRange, serviceRange},
		podRange:   podRange,
		services:   map[types.NamespacedName]*entry{},
		namespaces: map[string]int{},
		addresses:  map[netip.Addr][]types.NamespacedName{},
	}
}

// SetService adds a Service or replaces the one of its name.
func (z *Zone) SetService(service *corev1.Service) {
	z.change(types.NamespacedName{Namespace: service.Namespace, Name: service.Name}, func(e *entry) { e.service = service })
}

// DeleteService takes a Service out.
func (z *Zone) DeleteService(service *corev1.Service) {
	z.change(types.NamespacedName{Namespace: service.Namespace, Name: service.Name}, func(e *entry) { e.service = nil })
}

// SetSlice adds an EndpointSlice or replaces the one of its name, which has to
// have been of the same Service.
func (z *Zone) SetSlice(slice *discoveryv1.EndpointSlice) {
	z.change(serviceOf(slice), func(e *entry) { e.slices[slice.Name] = slice })
}

// DeleteSlice takes an EndpointSlice out.
func (z *Zone) DeleteSlice(slice *discoveryv1.EndpointSlice) {
	z.change(serviceOf(slice), func(e *entry) { delete(e.slices, slice.Name) })
}

// serviceOf returns the Service that a slice belongs to.
func serviceOf(slice *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
}

// change changes what is known of a Service, and the indexes with it.
func (z *Zone) change(key types.NamespacedName, do func(*entry)) {
	if key.Name == "" {
		return // a slice of no Service
	}
	e := z.services[key]
	if e == nil {
		e = &entry{slices: map[string]*discoveryv1.EndpointSlice{}}
		z.services[key] = e
	}
	z.serial++
	for _, address := range e.named() {
		z.forget(address, key)
	}
	if e.service != nil {
		if z.namespaces[key.Namespace]--; z.namespaces[key.Namespace] == 0 {
			delete(z.namespaces, key.Namespace)
		}
	}
	do(e)
	if e.service == nil && len(e.slices) == 0 {
		delete(z.services, key)
		return
	}
	if e.service != nil {
		z.namespaces[key.Namespace]++
	}
	for _, address := range e.named() {
		z.addresses[address] = append(z.addresses[address], key)
	}
}

func (z *Zone) forget(address netip.Addr, key types.NamespacedName) {
	left := slices.DeleteFunc(z.addresses[address], func(k types.NamespacedName) bool { return k == key })
	if len(left) == 0 {
		delete(z.addresses, address)
		return
	}
	z.addresses[address] = left
}

// headless says whether the names of a Service lead to its endpoints.
func (e *entry) headless() bool {
	return e.service.Spec.Type != corev1.ServiceTypeExternalName && e.service.Spec.ClusterIP == corev1.ClusterIPNone
}

// clusterAddresses returns the virtual addresses of a Service: none if it is
// headless or a name for something outside.
func (e *entry) clusterAddresses() []netip.Addr {
	if e.service.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	texts := e.service.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{e.service.Spec.ClusterIP}
	}
	var found []netip.Addr
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			found = append(found, address)
		}
	}
	return found
}

// named returns the addresses that have a name because of the Service, each once.
func (e *entry) named() []netip.Addr {
	if e.service == nil {
		return nil
	}
	if !e.headless() {
		return sortedUnique(e.clusterAddresses())
	}
	var found []netip.Addr
	for _, endpoint := range e.endpoints() {
		found = append(found, endpoint.address)
	}
	return sortedUnique(found)
}

// endpoint is one that is ready.
type endpoint struct {
	address netip.Addr
	listed  *discoveryv1.Endpoint
	ports   []discoveryv1.EndpointPort
}

// endpoints returns the ready endpoints of all slices in an order of their own.
func (e *entry) endpoints() []endpoint {
	var found []endpoint
	for _, name := range slices.Sorted(maps.Keys(e.slices)) {
		slice := e.slices[name]
		for i := range slice.Endpoints {
			listed := &slice.Endpoints[i]
			if ready := listed.Conditions.Ready; ready != nil && !*ready || len(listed.Addresses) == 0 {
				continue
			}
			// All addresses of an endpoint are the same backend: consumers take the first.
			address, err := netip.ParseAddr(listed.Addresses[0])
			if err != nil {
				continue // an FQDN, which has no name of ours
			}
			found = append(found, endpoint{address, listed, slice.Ports})
		}
	}
	slices.SortStableFunc(found, func(a, b endpoint) int {
		if c := a.address.Compare(b.address); c != 0 {
			return c
		}
		return strings.Compare(a.label(), b.label())
	})
	return found
}

// label returns the first part of an endpoint's name: its host name, or one made
// of its address.
func (e endpoint) label() string {
	if e.listed.Hostname != nil && *e.listed.Hostname != "" {
		return strings.ToLower(*e.listed.Hostname)
	}
	return strings.Map(func(r rune) rune {
		if r == '.' || r == ':' {
			return '-'
		}
		return r
	}, e.address.StringExpanded())
}

func sortedUnique(addresses []netip.Addr) []netip.Addr {
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}
