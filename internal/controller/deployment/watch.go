package deployment

import (
	"context"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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

// onDeployment forgets a Deployment that is gone.
func (r *reconciler) onDeployment() handler.EventHandler {
	return handler.Funcs{
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { r.written.Forget(e.Object) },
	}
}

// onReplicaSet wakes the Deployment of a set that changed in a way that can
// change a plan: not when only its counts did, which plans take from the pods.
func (r *reconciler) onReplicaSet() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			r.wakeOwner(ctx, e.Object.(*appsv1.ReplicaSet), q)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*appsv1.ReplicaSet), e.ObjectNew.(*appsv1.ReplicaSet)
			if !matters(before, after) {
				return
			}
			if owner := metav1.GetControllerOf(before); owner != nil && !sameController(before, after) {
				wake(before, owner, q)
			}
			r.wakeOwner(ctx, after, q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			r.written.Forget(e.Object)
			r.wakeOwner(ctx, e.Object.(*appsv1.ReplicaSet), q)
		},
	}
}

func matters(before, after *appsv1.ReplicaSet) bool {
	return before.Generation != after.Generation ||
		before.Status.ObservedGeneration != after.Status.ObservedGeneration ||
		(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		!sameController(before, after) ||
		!maps.Equal(before.Labels, after.Labels) ||
		!maps.Equal(before.Annotations, after.Annotations) ||
		!equality.Semantic.DeepEqual(before.Status.Conditions, after.Status.Conditions)
}

func sameController(a, b client.Object) bool { return owned.ControllerOf(a) == owned.ControllerOf(b) }

// wakeOwner wakes the Deployment that controls a set, or those that may adopt it.
func (r *reconciler) wakeOwner(ctx context.Context, rs *appsv1.ReplicaSet, q queue) {
	if owner := metav1.GetControllerOf(rs); owner != nil {
		wake(rs, owner, q)
		return
	}
	var deployments appsv1.DeploymentList
	if err := r.client.List(ctx, &deployments, client.InNamespace(rs.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return // only when the cache has stopped
	}
	for i := range deployments.Items {
		selector, err := metav1.LabelSelectorAsSelector(deployments.Items[i].Spec.Selector)
		if err == nil && selector.Matches(labels.Set(rs.Labels)) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&deployments.Items[i])})
		}
	}
}

func wake(rs *appsv1.ReplicaSet, owner *metav1.OwnerReference, q queue) {
	if owner.Kind == "Deployment" {
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: rs.Namespace, Name: owner.Name}})
	}
}

// onPod wakes the Deployment of a pod whose state changed.
func (r *reconciler) onPod() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { r.wakeByPod(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
			same := sameController(before, after)
			if !same {
				r.wakeByPod(ctx, before, q)
			}
			if !same || rollout.StateOf(before) != rollout.StateOf(after) {
				r.wakeByPod(ctx, after, q)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { r.wakeByPod(ctx, e.Object, q) },
	}
}

// wakeByPod finds the way from a pod by its ReplicaSet to its Deployment. A set
// that is not in the cache yet will wake the Deployment when it is.
func (r *reconciler) wakeByPod(ctx context.Context, pod client.Object, q queue) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "ReplicaSet" {
		return
	}
	var rs appsv1.ReplicaSet
	key := client.ObjectKey{Namespace: pod.GetNamespace(), Name: owner.Name}
	if err := r.client.Get(ctx, key, &rs, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	if of := metav1.GetControllerOf(&rs); of != nil {
		wake(&rs, of, q)
	}
}

// onNamespace wakes all Deployments of a namespace that says something else of
// rollouts that fail.
func (r *reconciler) onNamespace() handler.EventHandler {
	return handler.Funcs{
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetAnnotations()[v1alpha1.AnnotationOnFailure] == e.ObjectNew.GetAnnotations()[v1alpha1.AnnotationOnFailure] {
				return
			}
			var deployments appsv1.DeploymentList
			if err := r.client.List(ctx, &deployments, client.InNamespace(e.ObjectNew.GetName()), client.UnsafeDisableDeepCopy); err != nil {
				return // only when the cache has stopped
			}
			for i := range deployments.Items {
				q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&deployments.Items[i])})
			}
		},
	}
}
