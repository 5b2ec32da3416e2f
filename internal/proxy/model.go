package proxy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Model is a State that is told of one change at a time and compiles only the
// Services that changed: for the same objects its Compile returns what the
// function Compile does. It does no input or output and has no lock.
type Model struct {
	node     Node
	services map[string]*entry
	claims   map[slot][]*entry // who wants it, best claim first
	owners   map[string]string // namespace/name of each slice: the Service it is for
	leaving  map[string]uint64 // of the slices with a terminating endpoint: the resourceVersion
	listed   map[string]int    // addresses: how many endpoints have them
	ending   map[string]bool   // addresses of terminating endpoints that slices had and may have no more
	dirty    map[*entry]bool   // to compile again
	parts    []*Part           // as of the last Compile; never changed in place
}

// entry is all that the Model knows of one Service: the object, which may be
// missing, the slices labelled with its name, and its part as it would be if
// no other Service existed. Or it is a pod with host ports.
type entry struct {
	name    string
	service *corev1.Service
	pod     *corev1.Pod
	slices  map[string]*discoveryv1.EndpointSlice
	draft   *Part
}

// slot is a key of a map, which only one Service can have.
type slot struct {
	set string
	key Key
}

func (e Element) slot() slot { return slot{e.Set, e.Key} }

// NewModel returns a Model without Services.
func NewModel(node Node) *Model {
	return &Model{
		node:     node,
		parts:    []*Part{basePart(node)},
		services: map[string]*entry{},
		claims:   map[slot][]*entry{},
		owners:   map[string]string{},
		leaving:  map[string]uint64{},
		listed:   map[string]int{},
		ending:   map[string]bool{},
		dirty:    map[*entry]bool{},
	}
}

// SetService adds a Service or replaces the one of its name. The Model keeps
// the object and never changes it.
func (m *Model) SetService(service *corev1.Service) {
	e := m.entry(service.Namespace + "/" + service.Name)
	e.service = service
	m.dirty[e] = true
}

// DeleteService removes the Service of that namespace and name.
func (m *Model) DeleteService(namespace, name string) {
	e := m.entry(namespace + "/" + name)
	e.service = nil
	m.dirty[e] = true
}

// SetSlice adds an EndpointSlice or replaces the one of its name, which may
// have been for another Service. The Model keeps the object.
func (m *Model) SetSlice(slice *discoveryv1.EndpointSlice) {
	m.DeleteSlice(slice)
	name, owner := slice.Namespace+"/"+slice.Name, serviceOf(slice)
	if owner == "" {
		return
	}
	e := m.entry(owner)
	e.slices[name] = slice
	for _, endpoint := range slice.Endpoints {
		for _, address := range endpoint.Addresses {
			m.listed[address]++
		}
	}
	m.owners[name] = owner
	m.dirty[e] = true
	if hasTerminating(slice) {
		m.leaving[name] = version(slice)
	}
}

// DeleteSlice removes the EndpointSlice of that namespace and name.
func (m *Model) DeleteSlice(slice *discoveryv1.EndpointSlice) {
	name := slice.Namespace + "/" + slice.Name
	owner, ok := m.owners[name]
	if !ok {
		return
	}
	e := m.entry(owner)
	for _, endpoint := range e.slices[name].Endpoints {
		m.unlist(endpoint)
	}
	delete(e.slices, name)
	delete(m.owners, name)
	delete(m.leaving, name)
	m.dirty[e] = true
}

func (m *Model) unlist(endpoint discoveryv1.Endpoint) {
	for _, address := range endpoint.Addresses {
		if m.listed[address]--; m.listed[address] == 0 {
			delete(m.listed, address)
		}
		if terminating(endpoint.Conditions) {
			m.ending[address] = true
		}
	}
}

// Gone returns the addresses whose last endpoint was terminating when it left
// the slices, since Gone was called last: those of pods that are no more. An
// endpoint that leaves without terminating may be a pod that lives on and is
// only no longer selected.
func (m *Model) Gone() []netip.Addr {
	var gone []netip.Addr
	for text := range m.ending {
		if address, err := netip.ParseAddr(text); err == nil && address.Is4() && m.listed[text] == 0 {
			gone = append(gone, address)
		}
	}
	clear(m.ending)
	slices.SortFunc(gone, netip.Addr.Compare)
	return gone
}

func (m *Model) entry(name string) *entry {
	e, ok := m.services[name]
	if !ok {
		e = &entry{name: name, slices: map[string]*discoveryv1.EndpointSlice{}}
		m.services[name] = e
	}
	return e
}

// Compile returns the Ruleset for the objects as they are now. Parts of
// Services that did not change since the last call are the same pointers.
func (m *Model) Compile() Ruleset {
	unsettled := map[*entry]bool{}
	for e := range m.dirty {
		m.withdraw(e, unsettled)
	}
	for e := range m.dirty {
		m.claim(e, unsettled)
		if e.service == nil && e.pod == nil && len(e.slices) == 0 {
			delete(m.services, e.name)
		}
	}
	clear(m.dirty)
	if len(unsettled) > 0 {
		m.parts = slices.Clone(m.parts)
	}
	for e := range unsettled {
		m.settle(e)
	}
	return Ruleset{Parts: m.parts}
}

// withdraw takes back what a Service claimed. Every other that wanted one of
// these slots becomes unsettled.
func (m *Model) withdraw(e *entry, unsettled map[*entry]bool) {
	unsettled[e] = true
	for _, s := range e.claimed() {
		m.claims[s] = slices.DeleteFunc(m.claims[s], func(x *entry) bool { return x == e })
		for _, other := range m.claims[s] {
			unsettled[other] = true
		}
		if len(m.claims[s]) == 0 {
			delete(m.claims, s)
		}
	}
	e.draft = nil
}

// claim compiles a Service alone and claims what that needs. Every other that
// wants one of these slots becomes unsettled.
func (m *Model) claim(e *entry, unsettled map[*entry]bool) {
	switch {
	case e.service != nil:
		e.draft = compileService(m.node, e.service, e.sortedSlices())
	case e.pod != nil:
		e.draft = compilePod(e.pod)
	default:
		return
	}
	for _, s := range e.claimed() {
		for _, other := range m.claims[s] {
			unsettled[other] = true
		}
		m.claims[s] = append(m.claims[s], e)
		slices.SortFunc(m.claims[s], func(x, y *entry) int { return compareClaims(x, y, s.key) })
	}
}

// settle puts the part of a Service into the list: its draft, without what
// others have the better claim to.
func (m *Model) settle(e *entry) {
	part := e.draft
	lost := func(element Element) bool { return element.Goto != "" && m.claims[element.slot()][0] != e }
	if part != nil && slices.ContainsFunc(part.Elements, lost) {
		copied := *part
		copied.Elements = slices.DeleteFunc(slices.Clone(part.Elements), lost)
		part = &copied
	}
	i, found := slices.BinarySearchFunc(m.parts, e.name, func(p *Part, name string) int { return strings.Compare(p.Name, name) })
	switch {
	case found && part == nil:
		m.parts = slices.Delete(m.parts, i, i+1)
	case found:
		m.parts[i] = part
	case part != nil:
		m.parts = slices.Insert(m.parts, i, part)
	}
}

// Owner returns the namespace/name of the Service that has a TCP port of an
// address, by that address or else as a node port; empty for none.
func (m *Model) Owner(way netip.AddrPort) string {
	for _, s := range []slot{
		{setServices, Key{Address: way.Addr(), Protocol: TCP, Port: way.Port()}},
		{setNodePorts, Key{Protocol: TCP, Port: way.Port()}},
	} {
		if claims := m.claims[s]; len(claims) > 0 && claims[0].service != nil {
			return claims[0].name
		}
	}
	return ""
}

// Serves says whether a Service, given as namespace/name, exists and has a
// virtual address.
func (m *Model) Serves(service string) bool {
	e, ok := m.services[service]
	return ok && e.service != nil && hasVirtualAddress(e.service)
}

// Served returns the names of the Services that Serves says yes to.
func (m *Model) Served() []string {
	var names []string
	for name := range m.services {
		if m.Serves(name) {
			names = append(names, name)
		}
	}
	return names
}

// Lists says whether an address is one of an endpoint in any slice, ready or not.
func (m *Model) Lists(address netip.Addr) bool { return m.listed[address.String()] > 0 }

// Leaving says whether a Service has an endpoint that is terminating.
func (m *Model) Leaving(service string) bool {
	e, ok := m.services[service]
	if !ok {
		return false
	}
	for _, slice := range e.slices {
		if hasTerminating(slice) {
			return true
		}
	}
	return false
}

// Terminating returns the highest resourceVersion of the slices that list a
// terminating endpoint; 0 when there is none, and so nobody waits.
func (m *Model) Terminating() uint64 {
	var highest uint64
	for _, v := range m.leaving {
		highest = max(highest, v)
	}
	return highest
}

// Has says whether the Model holds a slice at exactly its resourceVersion.
func (m *Model) Has(slice *discoveryv1.EndpointSlice) bool {
	owner := serviceOf(slice)
	if owner == "" {
		return true
	}
	e, ok := m.services[owner]
	if !ok {
		return false
	}
	held := e.slices[slice.Namespace+"/"+slice.Name]
	return held != nil && held.ResourceVersion == slice.ResourceVersion
}

func (e *entry) sortedSlices() []*discoveryv1.EndpointSlice {
	sorted := make([]*discoveryv1.EndpointSlice, 0, len(e.slices))
	for _, slice := range e.slices {
		sorted = append(sorted, slice)
	}
	slices.SortFunc(sorted, func(x, y *discoveryv1.EndpointSlice) int { return strings.Compare(x.Name, y.Name) })
	return sorted
}

// claimed returns the slots that a Service's draft needs.
func (e *entry) claimed() []slot {
	if e.draft == nil {
		return nil
	}
	var claimed []slot
	for _, element := range e.draft.Elements {
		if element.Goto != "" {
			claimed = append(claimed, element.slot())
		}
	}
	return claimed
}

// compareClaims orders two Services that want the same address and port by the
// rule that Compile states.
func compareClaims(x, y *entry, key Key) int {
	if x.service == nil || y.service == nil {
		return comparePods(x, y)
	}
	own := func(e *entry) bool { return slices.Contains(clusterAddresses(e.service), key.Address) }
	switch {
	case own(x) != own(y):
		if own(x) {
			return -1
		}
		return 1
	case !x.service.CreationTimestamp.Equal(&y.service.CreationTimestamp):
		return x.service.CreationTimestamp.Compare(y.service.CreationTimestamp.Time)
	}
	return strings.Compare(x.name, y.name)
}

// comparePods is compareClaims where one of the two is a pod.
func comparePods(x, y *entry) int {
	switch {
	case y.pod == nil:
		return 1
	case x.pod == nil:
		return -1
	case !x.pod.CreationTimestamp.Equal(&y.pod.CreationTimestamp):
		return x.pod.CreationTimestamp.Compare(y.pod.CreationTimestamp.Time)
	}
	return strings.Compare(x.name, y.name)
}

// serviceOf returns the namespace/name of the Service that a slice is for;
// empty when it is for none.
func serviceOf(slice *discoveryv1.EndpointSlice) string {
	name := slice.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		return ""
	}
	return slice.Namespace + "/" + name
}

// version returns an object's resourceVersion as a number, as this cluster's
// are; 0 when it is none.
func version(slice *discoveryv1.EndpointSlice) uint64 {
	n, err := strconv.ParseUint(slice.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
