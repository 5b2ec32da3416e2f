package endpointslice

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/endpointslice/util"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// podHandler enqueues the Services that select a pod, or did before it changed.
// Changes that no endpoint shows are passed over.
func (r *reconciler) podHandler() handler.EventHandler {
	enqueue := func(ctx context.Context, q queue, pod client.Object, sets ...labels.Set) {
		for _, req := range r.servicesOf(ctx, pod.GetNamespace(), sets...) {
			q.Add(req)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			enqueue(ctx, q, e.Object, e.Object.GetLabels())
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
			if endpointChanged(before, after) {
				enqueue(ctx, q, after, before.Labels, after.Labels)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			enqueue(ctx, q, e.Object, e.Object.GetLabels())
		},
	}
}

// endpointChanged says whether two states of a pod make different endpoints.
func endpointChanged(before, after *corev1.Pod) bool {
	return before.UID != after.UID ||
		(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		util.IsPodReady(before) != util.IsPodReady(after) ||
		util.ShouldPodBeInEndpoints(before, true) != util.ShouldPodBeInEndpoints(after, true) ||
		before.Spec.NodeName != after.Spec.NodeName ||
		before.Status.PodIP != after.Status.PodIP ||
		!slices.Equal(before.Status.PodIPs, after.Status.PodIPs) ||
		!maps.Equal(before.Labels, after.Labels)
}

// sliceHandler enqueues the Service of a slice that somebody else may have
// changed, and forgets slices that are gone.
func (r *reconciler) sliceHandler() handler.EventHandler {
	service := func(slice client.Object) (types.NamespacedName, bool) {
		name := slice.GetLabels()[discoveryv1.LabelServiceName]
		ours := slice.GetLabels()[discoveryv1.LabelManagedBy] == managedBy
		return types.NamespacedName{Namespace: slice.GetNamespace(), Name: name}, ours && name != ""
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if key, ok := service(e.Object); ok {
				q.Add(reconcile.Request{NamespacedName: key})
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			for _, slice := range []client.Object{e.ObjectOld, e.ObjectNew} {
				if key, ok := service(slice); ok {
					q.Add(reconcile.Request{NamespacedName: key})
				}
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			if key, ok := service(e.Object); ok {
				r.memory.gone(key, e.Object.GetUID())
				q.Add(reconcile.Request{NamespacedName: key})
			}
		},
	}
}

// nodeHandler enqueues every Service when a node's zone changes, which is rare.
func (r *reconciler) nodeHandler() handler.EventHandler {
	all := func(ctx context.Context, q queue) {
		var list corev1.ServiceList
		if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return
		}
		for i := range list.Items {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	zone := func(node client.Object) string { return node.GetLabels()[corev1.LabelTopologyZone] }
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if zone(e.Object) != "" {
				all(ctx, q)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if zone(e.ObjectOld) != zone(e.ObjectNew) {
				all(ctx, q)
			}
		},
	}
}
