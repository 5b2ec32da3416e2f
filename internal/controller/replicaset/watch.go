package replicaset

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// onSet forgets a set that is gone.
func (r *reconciler) onSet() handler.EventHandler {
	return handler.Funcs{
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { r.written.forget(e.Object.GetUID()) },
	}
}

// onPod notes what the cache shows, and wakes the set of a pod whose state or
// labels changed, or those that may adopt it.
func (r *reconciler) onPod() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			r.written.seen(e.Object)
			r.wake(ctx, e.Object, q)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
			r.written.seen(after)
			same := owned.ControllerOf(before) == owned.ControllerOf(after)
			if !same && metav1.GetControllerOf(before) != nil {
				r.wake(ctx, before, q)
			}
			if !same || rollout.StateOf(before) != rollout.StateOf(after) || !maps.Equal(before.Labels, after.Labels) {
				r.wake(ctx, after, q)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			r.written.gone(e.Object)
			if metav1.GetControllerOf(e.Object) != nil {
				r.wake(ctx, e.Object, q)
			}
		},
	}
}

// wake wakes the set that controls a pod. For a pod that nothing controls, it
// wakes all sets of the kind whose selector matches it.
func (r *reconciler) wake(ctx context.Context, pod client.Object, q queue) {
	if owner := metav1.GetControllerOf(pod); owner != nil {
		if owner.Kind == r.kind.Kind && owner.APIVersion == r.kind.GroupVersion().String() {
			q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: owner.Name}})
		}
		return
	}
	sets := r.kind.list()
	if err := r.client.List(ctx, sets, client.InNamespace(pod.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
		return // only when the cache has stopped
	}
	for _, object := range r.kind.each(sets) {
		if set, err := r.kind.read(object); err == nil && set.Selector.Matches(labels.Set(pod.GetLabels())) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(object)})
		}
	}
}
