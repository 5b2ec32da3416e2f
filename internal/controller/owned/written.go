package owned

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Written holds the last version of each object that a process has written, until
// its cache has one as new. It is safe for concurrent use; its zero value is ready.
type Written struct {
	mu      sync.Mutex
	objects map[types.UID]client.Object
}

// Keep remembers an object as the API returned it from a write. It must not be
// changed afterwards.
func (w *Written) Keep(object client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.objects == nil {
		w.objects = map[types.UID]client.Object{}
	}
	w.objects[object.GetUID()] = object
}

// Forget drops what is known of an object that is gone.
func (w *Written) Forget(object client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.objects, object.GetUID())
}

// Each calls visit with all that is remembered, which visit must not change.
func (w *Written) Each(visit func(client.Object)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, object := range w.objects {
		visit(object)
	}
}

// Newest returns the version that is remembered if it is newer than the cached
// one, else the cached one.
func Newest[T client.Object](w *Written, cached T) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	written, ok := w.objects[cached.GetUID()].(T)
	if !ok {
		return cached
	}
	if order, err := resourceversion.CompareResourceVersion(written.GetResourceVersion(), cached.GetResourceVersion()); err == nil && order > 0 {
		return written
	}
	delete(w.objects, cached.GetUID())
	return cached
}
