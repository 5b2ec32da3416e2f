package endpointslice

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// managedBy is the value of discoveryv1.LabelManagedBy on our slices. It is
	// Kubernetes' own, so that clients that look for it find them.
	managedBy = "endpointslice-controller.k8s.io"

	// maxEndpoints is the size of a full slice.
	maxEndpoints = 100
)

// verb is what to do with a slice.
type verb string

const (
	create verb = "create"
	update verb = "update"
	remove verb = "delete"
)

// act is one write that brings a Service's slices closer to its pods.
type act struct {
	Verb  verb
	Slice *discoveryv1.EndpointSlice // as it should be; for remove, as it is
	Why   string
}

// plan returns the writes that make the slices of a Service right, in the order
// to do them. pods are those that the Service selects, zones maps the names of
// nodes to their topology zone, and existing are the slices that carry the
// Service's name and this controller's mark. Nothing passed in is changed.
func plan(service *corev1.Service, pods []*corev1.Pod, zones map[string]string, existing []*discoveryv1.EndpointSlice) []act {
	families := addressTypes(service)
	var acts []act
	kept := map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{}
	for _, slice := range existing {
		switch {
		case slice.DeletionTimestamp != nil:
		case !ownedBy(slice, service):
			acts = append(acts, act{remove, slice, "its Service is gone"})
		case !slices.Contains(families, slice.AddressType):
			acts = append(acts, act{remove, slice, fmt.Sprintf("the Service has no %s address", slice.AddressType)})
		default:
			kept[slice.AddressType] = append(kept[slice.AddressType], slice)
		}
	}
	for _, family := range families {
		acts = append(acts, planFamily(service, group(service, pods, zones, family), kept[family], family)...)
	}
	return acts
}

// planFamily plans the slices of one address family.
func planFamily(service *corev1.Service, groups []portGroup, existing []*discoveryv1.EndpointSlice, family discoveryv1.AddressType) []act {
	slices.SortFunc(existing, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	byPorts := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range existing {
		key := portsKey(slice.Ports)
		byPorts[key] = append(byPorts[key], slice)
	}
	var acts []act
	for _, g := range groups {
		key := portsKey(g.ports)
		acts = append(acts, planGroup(service, g, byPorts[key], family)...)
		delete(byPorts, key)
	}
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		for _, slice := range byPorts[key] {
			acts = append(acts, act{remove, slice, "no pod serves its ports"})
		}
	}
	return reuse(keepPlaceholder(service, acts, existing, family))
}

// planGroup fits the endpoints that share their ports into the slices that have
// those ports: an endpoint stays in its slice, new ones fill what has room.
func planGroup(service *corev1.Service, g portGroup, existing []*discoveryv1.EndpointSlice, family discoveryv1.AddressType) []act {
	left := map[types.UID]discoveryv1.Endpoint{}
	for _, e := range g.endpoints {
		left[e.TargetRef.UID] = e
	}
	wanted := make([]*discoveryv1.EndpointSlice, len(existing))
	for i, slice := range existing {
		wanted[i] = withLabels(slice, service)
		wanted[i].Endpoints = nil
		for _, e := range slice.Endpoints {
			if e.TargetRef == nil {
				continue
			}
			if now, ok := left[e.TargetRef.UID]; ok {
				wanted[i].Endpoints = append(wanted[i].Endpoints, now)
				delete(left, e.TargetRef.UID)
			}
		}
	}
	rest := slices.DeleteFunc(slices.Clone(g.endpoints), func(e discoveryv1.Endpoint) bool {
		_, ok := left[e.TargetRef.UID]
		return !ok
	})
	// Slices that are written anyway are filled first, the fullest before all.
	order := slices.Clone(wanted)
	changed := func(s *discoveryv1.EndpointSlice) bool { return difference(existing, s) != "" }
	slices.SortStableFunc(order, func(a, b *discoveryv1.EndpointSlice) int {
		if ca, cb := changed(a), changed(b); ca != cb {
			if ca {
				return -1
			}
			return 1
		}
		return cmp.Compare(len(b.Endpoints), len(a.Endpoints))
	})
	for _, slice := range order {
		n := min(maxEndpoints-len(slice.Endpoints), len(rest))
		if n > 0 {
			slice.Endpoints = append(slice.Endpoints, rest[:n]...)
			rest = rest[n:]
		}
	}
	var acts []act
	for i, slice := range wanted {
		if len(slice.Endpoints) == 0 {
			acts = append(acts, act{remove, existing[i], "it has no endpoints left"})
		} else if why := difference(existing, slice); why != "" {
			acts = append(acts, act{update, slice, why})
		}
	}
	for chunk := range slices.Chunk(rest, maxEndpoints) {
		slice := newSlice(service, family, g.ports)
		slice.Endpoints = slices.Clone(chunk)
		acts = append(acts, act{create, slice, fmt.Sprintf("%d endpoints have no slice", len(chunk))})
	}
	return acts
}

// keepPlaceholder makes sure that a Service without endpoints still has one
// slice, which says so.
func keepPlaceholder(service *corev1.Service, acts []act, existing []*discoveryv1.EndpointSlice, family discoveryv1.AddressType) []act {
	left := len(existing)
	for _, a := range acts {
		switch a.Verb {
		case create:
			left++
		case remove:
			left--
		}
	}
	if left > 0 {
		return acts
	}
	empty := newSlice(service, family, nil)
	if len(existing) == 1 && len(existing[0].Endpoints) == 0 && len(existing[0].Ports) == 0 &&
		maps.Equal(existing[0].Labels, empty.Labels) {
		return nil
	}
	return append(acts, act{create, empty, "the Service has no endpoints"})
}

// reuse turns a deletion and a creation into one update, so that watchers never
// see a moment without either.
func reuse(acts []act) []act {
	var done []act
	for _, a := range acts {
		if a.Verb == create {
			if i := slices.IndexFunc(done, func(d act) bool { return d.Verb == remove }); i >= 0 {
				slice := done[i].Slice.DeepCopy()
				slice.Labels, slice.Ports, slice.Endpoints = a.Slice.Labels, a.Slice.Ports, a.Slice.Endpoints
				done[i] = act{update, slice, a.Why + ", and one is free: " + done[i].Why}
				continue
			}
		} else if a.Verb == remove {
			if i := slices.IndexFunc(done, func(d act) bool { return d.Verb == create }); i >= 0 {
				slice := a.Slice.DeepCopy()
				slice.Labels, slice.Ports, slice.Endpoints = done[i].Slice.Labels, done[i].Slice.Ports, done[i].Slice.Endpoints
				done[i] = act{update, slice, done[i].Why + ", and one is free: " + a.Why}
				continue
			}
		}
		done = append(done, a)
	}
	return done
}

// difference says how a slice differs from the one of its name in existing; ""
// when it does not.
func difference(existing []*discoveryv1.EndpointSlice, wanted *discoveryv1.EndpointSlice) string {
	i := slices.IndexFunc(existing, func(s *discoveryv1.EndpointSlice) bool { return s.Name == wanted.Name })
	is := existing[i]
	var why []string
	if !maps.Equal(is.Labels, wanted.Labels) {
		why = append(why, "the Service's labels changed")
	}
	before := map[types.UID]*discoveryv1.Endpoint{}
	for j := range is.Endpoints {
		if ref := is.Endpoints[j].TargetRef; ref != nil {
			before[ref.UID] = &is.Endpoints[j]
		} else {
			why = append(why, "an endpoint has no pod")
		}
	}
	for j := range wanted.Endpoints {
		e := &wanted.Endpoints[j]
		b, ok := before[e.TargetRef.UID]
		delete(before, e.TargetRef.UID)
		switch {
		case !ok:
			why = append(why, fmt.Sprintf("pod %s is new (%s)", e.TargetRef.Name, state(e)))
		case !equality.Semantic.DeepEqual(b, e):
			why = append(why, fmt.Sprintf("pod %s was %s, is %s", e.TargetRef.Name, state(b), state(e)))
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(before)) {
		why = append(why, fmt.Sprintf("pod %s is gone", before[uid].TargetRef.Name))
	}
	return strings.Join(why, "; ")
}

// state is an endpoint's conditions in a word or two.
func state(e *discoveryv1.Endpoint) string {
	is := func(b *bool) bool { return b != nil && *b }
	c := e.Conditions
	switch {
	case is(c.Terminating) && is(c.Serving):
		return "terminating, serving"
	case is(c.Terminating):
		return "terminating"
	case is(c.Ready):
		return "ready"
	}
	return "not ready"
}

func newSlice(service *corev1.Service, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    service.Name + "-",
			Namespace:       service.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: family,
		Endpoints:   []discoveryv1.Endpoint{},
		Ports:       ports,
	}
	slice.Labels = sliceLabels(service)
	return slice
}

// withLabels returns a copy of a slice that can be changed, labelled as its
// Service wants it now.
func withLabels(slice *discoveryv1.EndpointSlice, service *corev1.Service) *discoveryv1.EndpointSlice {
	c := *slice
	c.Labels = sliceLabels(service)
	return &c
}

// sliceLabels are the Service's labels and those that are reserved for slices.
func sliceLabels(service *corev1.Service) map[string]string {
	l := map[string]string{}
	maps.Copy(l, service.Labels)
	delete(l, corev1.IsHeadlessService)
	if service.Spec.ClusterIP == "" || service.Spec.ClusterIP == corev1.ClusterIPNone {
		l[corev1.IsHeadlessService] = ""
	}
	l[discoveryv1.LabelServiceName] = service.Name
	l[discoveryv1.LabelManagedBy] = managedBy
	return l
}

// ownedBy says whether a slice belongs to this Service and not to an earlier one
// of the same name.
func ownedBy(slice *discoveryv1.EndpointSlice, service *corev1.Service) bool {
	return slices.ContainsFunc(slice.OwnerReferences, func(r metav1.OwnerReference) bool {
		return r.UID == service.UID && r.Kind == "Service"
	})
}
