package endpointslice

import (
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// memory holds what this process wrote last, until the cache shows it. A plan
// made over a cache that lags behind would make slices twice.
type memory struct {
	mu       sync.Mutex
	services map[types.NamespacedName]map[types.UID]written
}

// written is a slice as the API returned it, or its deletion.
type written struct {
	slice   *discoveryv1.EndpointSlice
	deleted bool
}

func newMemory() *memory {
	return &memory{services: map[types.NamespacedName]map[types.UID]written{}}
}

// overlay returns the newest known state of a Service's slices: each as the
// cache has it, or as it was written since.
func (m *memory) overlay(service types.NamespacedName, cached []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.services[service]
	newest := make([]*discoveryv1.EndpointSlice, 0, len(cached)+len(known))
	seen := map[types.UID]bool{}
	for _, slice := range cached {
		seen[slice.UID] = true
		w, ok := known[slice.UID]
		switch {
		case !ok:
			newest = append(newest, slice)
		case w.deleted:
		case newer(w.slice, slice):
			newest = append(newest, w.slice)
		default:
			delete(known, slice.UID)
			newest = append(newest, slice)
		}
	}
	for uid, w := range known {
		if seen[uid] {
			continue
		}
		if w.deleted {
			delete(known, uid)
		} else {
			newest = append(newest, w.slice)
		}
	}
	return newest
}

// wrote remembers a slice as the API returned it.
func (m *memory) wrote(service types.NamespacedName, slice *discoveryv1.EndpointSlice, deleted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.services[service]
	if known == nil {
		known = map[types.UID]written{}
		m.services[service] = known
	}
	known[slice.UID] = written{slice: slice, deleted: deleted}
}

// gone forgets a slice that the watch has shown deleted.
func (m *memory) gone(service types.NamespacedName, uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.services[service], uid)
}

// forget drops all that is known of a Service: it is gone, or the API has
// contradicted what was remembered.
func (m *memory) forget(service types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.services, service)
}

// newer says whether a was written after b.
func newer(a, b *discoveryv1.EndpointSlice) bool {
	order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && order > 0
}
