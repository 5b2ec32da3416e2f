package replicaset

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// onPod notes what the cache shows, and wakes the set of a pod whose state or
// labels changed, or those that may adopt it.
func (r *reconciler) onPod() handler.EventHandler {
	return loop.Events[*corev1.Pod]{
		Created: func(ctx context.Context, pod *corev1.Pod, q loop.Queue) {
			r.written.seen(pod)
			r.wake(ctx, pod, q)
		},
		Updated: func(ctx context.Context, before, after *corev1.Pod, q loop.Queue) {
			r.written.seen(after)
			same := owned.ControllerOf(before) == owned.ControllerOf(after)
			if !same && metav1.GetControllerOf(before) != nil {
				r.wake(ctx, before, q)
			}
			if !same || rollout.StateOf(before) != rollout.StateOf(after) || !maps.Equal(before.Labels, after.Labels) {
				r.wake(ctx, after, q)
			}
		},
		Deleted: func(ctx context.Context, pod *corev1.Pod, q loop.Queue) {
			r.written.gone(pod)
			if metav1.GetControllerOf(pod) != nil {
				r.wake(ctx, pod, q)
			}
		},
	}.Handler()
}

// wake wakes the set that controls a pod. For a pod that nothing controls, it
// wakes all sets of the kind whose selector matches it.
func (r *reconciler) wake(ctx context.Context, pod *corev1.Pod, q loop.Queue) {
	if owner := metav1.GetControllerOf(pod); owner != nil {
		if owner.Kind == r.kind.Kind && owner.APIVersion == r.kind.GroupVersion().String() {
			loop.Wake(q, loop.Named(pod.Namespace, owner.Name))
		}
		return
	}
	loop.Wake(q, loop.Those(ctx, r.client, r.kind.list(), func(object client.Object) bool {
		set, err := r.kind.read(object)
		return err == nil && set.Selector.Matches(labels.Set(pod.Labels))
	}, client.InNamespace(pod.Namespace))...)
}
