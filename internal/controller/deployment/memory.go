package deployment

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// memory holds the last version of each object that this process has written,
// until the cache has one as new.
type memory struct {
	mu      sync.Mutex
	objects map[types.UID]client.Object
}

func newMemory() *memory { return &memory{objects: map[types.UID]client.Object{}} }

// keep remembers an object as the API returned it from a write. It must not be
// changed afterwards.
func (m *memory) keep(object client.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[object.GetUID()] = object
}

// forget drops what is known of an object that is gone.
func (m *memory) forget(object client.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, object.GetUID())
}

// newest returns the version in memory if it is newer than the cached one, else
// the cached one.
func newest[T client.Object](m *memory, cached T) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	written, ok := m.objects[cached.GetUID()].(T)
	if !ok {
		return cached
	}
	if order, err := resourceversion.CompareResourceVersion(written.GetResourceVersion(), cached.GetResourceVersion()); err == nil && order > 0 {
		return written
	}
	delete(m.objects, cached.GetUID())
	return cached
}
