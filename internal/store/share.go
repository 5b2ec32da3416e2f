package store

import (
	"context"
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

// sharing is a storage for a watch cache, which holds every version of an object
// of the last 75 s and never changes one: what two versions in a row have in
// common is in memory once. Of a pod whose status changes that is more than half.
type sharing struct{ storage.Interface }

// Watch implements storage.Interface.
func (s sharing) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	w, err := s.Interface.Watch(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	latest := map[types.UID]runtime.Object{}
	return watch.Filter(w, func(event watch.Event) (watch.Event, bool) {
		object, err := meta.Accessor(event.Object)
		if err != nil || object.GetUID() == "" {
			return event, true
		}
		if before := latest[object.GetUID()]; before != nil {
			share(before, event.Object)
		}
		if event.Type == watch.Deleted {
			delete(latest, object.GetUID())
		} else {
			latest[object.GetUID()] = event.Object
		}
		return event, true
	}), nil
}

// share has a version of an object use the parts of the version before that are
// the same.
func share(before, after runtime.Object) {
	from, errFrom := meta.Accessor(before)
	to, errTo := meta.Accessor(after)
	if errFrom != nil || errTo != nil {
		return
	}
	shareMeta(from, to)
	old, now := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	if old.Type() != now.Type() || old.Kind() != reflect.Struct {
		return
	}
	for _, name := range []string{"Spec", "Status"} {
		was, is := old.FieldByName(name), now.FieldByName(name)
		if is.IsValid() && is.CanSet() && reflect.DeepEqual(was.Interface(), is.Interface()) {
			is.Set(was)
		}
	}
}

func shareMeta(from, to metav1.Object) {
	if maps.Equal(from.GetLabels(), to.GetLabels()) {
		to.SetLabels(from.GetLabels())
	}
	if maps.Equal(from.GetAnnotations(), to.GetAnnotations()) {
		to.SetAnnotations(from.GetAnnotations())
	}
	if reflect.DeepEqual(from.GetOwnerReferences(), to.GetOwnerReferences()) {
		to.SetOwnerReferences(from.GetOwnerReferences())
	}
	if reflect.DeepEqual(from.GetManagedFields(), to.GetManagedFields()) {
		to.SetManagedFields(from.GetManagedFields())
	}
	if from.GetName() == to.GetName() && from.GetNamespace() == to.GetNamespace() && from.GetUID() == to.GetUID() {
		to.SetName(from.GetName())
		to.SetNamespace(from.GetNamespace())
		to.SetUID(from.GetUID())
	}
}
