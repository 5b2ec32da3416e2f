package statefulset

import (
	"context"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/rollout"
)

// onRevision wakes the set of a revision that somebody changes or deletes.
func (r *reconciler) onRevision() handler.EventHandler {
	events := loop.Dependents(r.wake, func(_, _ client.Object) bool { return true })
	events.Deleted = func(ctx context.Context, revision client.Object, q loop.Queue) {
		r.written.Forget(revision)
		r.wake(ctx, revision, q)
	}
	return events.Handler()
}

// onPod wakes the set of a pod whose state or labels changed, or those that may
// adopt it. It wakes them when a pod goes, too, whosever it was: its name is free.
func (r *reconciler) onPod() handler.EventHandler {
	return loop.Dependents(r.wake, func(before, after client.Object) bool {
		was, is := before.(*corev1.Pod), after.(*corev1.Pod)
		return rollout.StateOf(was) != rollout.StateOf(is) || !maps.Equal(was.Labels, is.Labels)
	}).Handler()
}

// wake wakes the set that controls an object. For one that nothing controls, it
// wakes all sets whose selector matches it, or of which it has a pod's name.
func (r *reconciler) wake(ctx context.Context, object client.Object, q loop.Queue) {
	if owner := metav1.GetControllerOf(object); owner != nil {
		if owner.Kind == "StatefulSet" {
			loop.Wake(q, loop.Named(object.GetNamespace(), owner.Name))
		}
		return
	}
	r.wakeThose(ctx, object.GetNamespace(), q, func(set *appsv1.StatefulSet) bool {
		selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
		_, named := rollout.OrdinalOf(set.Name, object.GetName())
		return err == nil && selector.Matches(labels.Set(object.GetLabels())) || named
	})
}

func (r *reconciler) wakeThose(ctx context.Context, namespace string, q loop.Queue, which func(*appsv1.StatefulSet) bool) {
	loop.Wake(q, loop.Those(ctx, r.client, &appsv1.StatefulSetList{}, which, client.InNamespace(namespace))...)
}

// onClaim wakes the set of a claim that is gone: a pod may wait for that.
func (r *reconciler) onClaim() handler.EventHandler {
	return loop.Events[client.Object]{
		Deleted: func(ctx context.Context, claim client.Object, q loop.Queue) {
			r.wakeThose(ctx, claim.GetNamespace(), q, func(set *appsv1.StatefulSet) bool { return ofSet(set, claim.GetName()) })
		},
	}.Handler()
}

func (r *reconciler) wakeAll(ctx context.Context, namespace string, q loop.Queue) {
	r.wakeThose(ctx, namespace, q, loop.Any)
}
