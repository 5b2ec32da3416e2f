package endpointslice

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/endpointslice/util"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
)

// podHandler wakes the Services that select a pod, or did before it changed.
// Changes that no endpoint shows are passed over.
func (r *reconciler) podHandler() handler.EventHandler {
	wake := func(ctx context.Context, pod *corev1.Pod, q loop.Queue) {
		loop.Wake(q, r.servicesOf(ctx, pod.Namespace, pod.Labels)...)
	}
	return loop.Events[*corev1.Pod]{
		Created: wake,
		Updated: func(ctx context.Context, before, after *corev1.Pod, q loop.Queue) {
			if endpointChanged(before, after) {
				loop.Wake(q, r.servicesOf(ctx, after.Namespace, before.Labels, after.Labels)...)
			}
		},
		Deleted: wake,
	}.Handler()
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

// sliceHandler wakes the Service of a slice that somebody else may have changed,
// and forgets slices that are gone.
func (r *reconciler) sliceHandler() handler.EventHandler {
	wake := func(_ context.Context, slice client.Object, q loop.Queue) {
		if service, ok := serviceOf(slice); ok {
			loop.Wake(q, service)
		}
	}
	return loop.Events[client.Object]{
		Created: wake,
		Updated: func(ctx context.Context, before, after client.Object, q loop.Queue) {
			wake(ctx, before, q)
			wake(ctx, after, q)
		},
		Deleted: func(_ context.Context, slice client.Object, q loop.Queue) {
			if service, ok := serviceOf(slice); ok {
				r.memory.gone(service.NamespacedName, slice.GetUID())
				loop.Wake(q, service)
			}
		},
	}.Handler()
}

// serviceOf returns the Service of a slice, and whether the slice is one of ours.
func serviceOf(slice client.Object) (reconcile.Request, bool) {
	name := slice.GetLabels()[discoveryv1.LabelServiceName]
	ours := slice.GetLabels()[discoveryv1.LabelManagedBy] == managedBy
	return loop.Named(slice.GetNamespace(), name), ours && name != ""
}

// nodeHandler wakes every Service when a node's zone changes, which is rare.
func (r *reconciler) nodeHandler() handler.EventHandler {
	all := func(ctx context.Context, q loop.Queue) {
		loop.Wake(q, loop.Those(ctx, r.client, &corev1.ServiceList{}, loop.Any[*corev1.Service])...)
	}
	zone := func(node client.Object) string { return node.GetLabels()[corev1.LabelTopologyZone] }
	return loop.Events[client.Object]{
		Created: func(ctx context.Context, node client.Object, q loop.Queue) {
			if zone(node) != "" {
				all(ctx, q)
			}
		},
		Updated: func(ctx context.Context, before, after client.Object, q loop.Queue) {
			if zone(before) != zone(after) {
				all(ctx, q)
			}
		},
	}.Handler()
}
