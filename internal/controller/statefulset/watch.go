package statefulset

import (
	"context"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// onSet forgets a set that is gone.
func (r *reconciler) onSet() handler.EventHandler {
	return handler.Funcs{
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { r.written.Forget(e.Object) },
	}
}

// onRevision wakes the set of a revision that somebody changes or deletes.
func (r *reconciler) onRevision() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { r.wake(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if owned.ControllerOf(e.ObjectOld) != owned.ControllerOf(e.ObjectNew) {
				r.wake(ctx, e.ObjectOld, q)
			}
			r.wake(ctx, e.ObjectNew, q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			r.written.Forget(e.Object)
			r.wake(ctx, e.Object, q)
		},
	}
}

// onPod wakes the set of a pod whose state or labels changed, or those that may
// adopt it.
func (r *reconciler) onPod() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { r.wake(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
			same := owned.ControllerOf(before) == owned.ControllerOf(after)
			if !same {
				r.wake(ctx, before, q)
			}
			if !same || rollout.StateOf(before) != rollout.StateOf(after) || !maps.Equal(before.Labels, after.Labels) {
				r.wake(ctx, after, q)
			}
		},
		// A name that another pod has had is free, whosever that was.
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { r.wake(ctx, e.Object, q) },
	}
}

// wake wakes the set that controls an object. For one that nothing controls, it
// wakes all sets whose selector matches it, or of which it has a pod's name.
func (r *reconciler) wake(ctx context.Context, object client.Object, q queue) {
	if owner := metav1.GetControllerOf(object); owner != nil {
		if owner.Kind == "StatefulSet" {
			q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: owner.Name}})
		}
		return
	}
	r.wakeThose(ctx, object.GetNamespace(), q, func(set *appsv1.StatefulSet) bool {
		selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
		_, named := rollout.OrdinalOf(set.Name, object.GetName())
		return err == nil && selector.Matches(labels.Set(object.GetLabels())) || named
	})
}

func (r *reconciler) wakeThose(ctx context.Context, namespace string, q queue, which func(*appsv1.StatefulSet) bool) {
	var sets appsv1.StatefulSetList
	if err := r.client.List(ctx, &sets, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return // only when the cache has stopped
	}
	for i := range sets.Items {
		if which(&sets.Items[i]) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&sets.Items[i])})
		}
	}
}

// onClaim wakes the set of a claim that is gone: a pod may wait for that.
func (r *reconciler) onClaim() handler.EventHandler {
	return handler.Funcs{
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			r.wakeThose(ctx, e.Object.GetNamespace(), q, func(set *appsv1.StatefulSet) bool { return ofSet(set, e.Object.GetName()) })
		},
	}
}

// onNamespace wakes all sets of a namespace that says something else of rollouts
// that fail.
func (r *reconciler) onNamespace() handler.EventHandler {
	return handler.Funcs{
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetAnnotations()[v1alpha1.AnnotationOnFailure] != e.ObjectNew.GetAnnotations()[v1alpha1.AnnotationOnFailure] {
				r.wakeThose(ctx, e.ObjectNew.GetName(), q, func(*appsv1.StatefulSet) bool { return true })
			}
		},
	}
}
