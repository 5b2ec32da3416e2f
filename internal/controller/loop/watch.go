package loop

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/owned"
)

// Queue is what holds whom a controller is going to look at.
type Queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Named is the request to look at the object of a name.
func Named(namespace, name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

// For is the request to look at an object.
func For(object client.Object) reconcile.Request {
	return Named(object.GetNamespace(), object.GetName())
}

// Those returns requests to look at the objects of a list that which picks. It
// fills the list from a cache, by the options; which must not change what it sees.
func Those[T client.Object](ctx context.Context, cache client.Reader, list client.ObjectList, which func(T) bool, options ...client.ListOption) []reconcile.Request {
	err := cache.List(ctx, list, append(options, client.UnsafeDisableDeepCopy)...)
	var requests []reconcile.Request
	if err == nil {
		err = meta.EachListItem(list, func(item runtime.Object) error {
			if object := item.(T); which(object) {
				requests = append(requests, For(object))
			}
			return nil
		})
	}
	if err != nil && ctx.Err() == nil { // else the cache has stopped, as all has
		log.FromContext(ctx).Error(err, "Look for what an event concerns")
	}
	return requests
}

// Any picks every object.
func Any[T client.Object](T) bool { return true }

// Wake adds requests to a queue.
func Wake(q Queue, requests ...reconcile.Request) {
	for _, request := range requests {
		q.Add(request)
	}
}

// Events says what to do when an object of a kind comes, changes or goes. Where a
// function is nil, nothing is done.
type Events[T client.Object] struct {
	Created func(ctx context.Context, object T, q Queue)
	Updated func(ctx context.Context, before, after T, q Queue)
	Deleted func(ctx context.Context, object T, q Queue)
}

// Handler hands the events of a watch on.
func (e Events[T]) Handler() handler.EventHandler {
	var funcs handler.Funcs
	if e.Created != nil {
		funcs.CreateFunc = func(ctx context.Context, c event.CreateEvent, q Queue) { e.Created(ctx, c.Object.(T), q) }
	}
	if e.Updated != nil {
		funcs.UpdateFunc = func(ctx context.Context, u event.UpdateEvent, q Queue) {
			e.Updated(ctx, u.ObjectOld.(T), u.ObjectNew.(T), q)
		}
	}
	if e.Deleted != nil {
		funcs.DeleteFunc = func(ctx context.Context, d event.DeleteEvent, q Queue) { e.Deleted(ctx, d.Object.(T), q) }
	}
	return funcs
}

// Dependents wakes whom an object belongs to: when it comes or goes, when it
// changes in a way that matters, and, both of them, when it changes hands.
func Dependents[T client.Object](wake func(context.Context, T, Queue), matters func(before, after T) bool) Events[T] {
	return Events[T]{
		Created: wake,
		Updated: func(ctx context.Context, before, after T, q Queue) {
			passed := owned.ControllerOf(before) != owned.ControllerOf(after)
			if passed {
				wake(ctx, before, q)
			}
			if passed || matters(before, after) {
				wake(ctx, after, q)
			}
		},
		Deleted: wake,
	}
}

// Gone calls forget with each object of a kind that is deleted, and wakes nobody.
func Gone(forget func(client.Object)) handler.EventHandler {
	return Events[client.Object]{Deleted: func(_ context.Context, object client.Object, _ Queue) { forget(object) }}.Handler()
}
