package store

import (
	"context"
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

// sharing is a storage for a watch cache, which holds every version of an object
// of the last 75 s and never changes one: what two versions in a row have in
// common is in memory once, and so is what the first version of an object has in
// common with another object of the same controller. Of a pod whose status changes
// that is more than half, of a new one of a set nearly all of its spec.
type sharing struct{ storage.Interface }

// Watch implements storage.Interface.
func (s sharing) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	w, err := s.Interface.Watch(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	latest := map[types.UID]metav1.Object{}
	youngest := map[types.UID]metav1.Object{} // by the UID of the controller
	return watch.Filter(w, func(event watch.Event) (watch.Event, bool) {
		object, err := meta.Accessor(event.Object)
		if err != nil || object.GetUID() == "" {
			return event, true
		}
		before, known := latest[object.GetUID()]
		latest[object.GetUID()] = object
		if owner := metav1.GetControllerOfNoCopy(object); owner != nil {
			sibling := youngest[owner.UID]
			switch {
			case event.Type != watch.Deleted && !known:
				before, youngest[owner.UID] = sibling, object
			case event.Type == watch.Deleted && sibling != nil && sibling.GetUID() == object.GetUID():
				delete(youngest, owner.UID)
			}
		}
		if before != nil {
			share(before, object)
		}
		if event.Type == watch.Deleted {
			delete(latest, object.GetUID())
		}
		return event, true
	}), nil
}

// share has an object use the parts of another, which is older, that are the same.
func share(before, after metav1.Object) {
	shareMeta(before, after)
	old, now := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	if old.Type() != now.Type() || old.Kind() != reflect.Struct {
		return
	}
	for _, name := range []string{"Spec", "Status"} {
		if was, is := old.FieldByName(name), now.FieldByName(name); is.IsValid() && is.Kind() == reflect.Struct {
			shareFields(was, is)
		}
	}
}

func shareFields(from, to reflect.Value) {
	for i := range to.NumField() {
		was, is := from.Field(i), to.Field(i)
		if is.CanSet() && reflect.DeepEqual(was.Interface(), is.Interface()) {
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
