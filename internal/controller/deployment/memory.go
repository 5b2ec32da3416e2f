package deployment

import (
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// unlisted returns the sets of a Deployment that this process has written and
// that are not in a list from the cache: the cache is late, or they are gone.
func (m *memory) unlisted(deployment types.UID, listed []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*appsv1.ReplicaSet
	for uid, object := range m.objects {
		rs, is := object.(*appsv1.ReplicaSet)
		if owner := metav1.GetControllerOf(object); !is || owner == nil || owner.UID != deployment {
			continue
		}
		if !slices.ContainsFunc(listed, func(rs *appsv1.ReplicaSet) bool { return rs.UID == uid }) {
			out = append(out, rs)
		}
	}
	return out
}
