package deployment

import (
	"context"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/rollout"
)

// onReplicaSet wakes the Deployment of a set that changed in a way that can
// change a plan: not when only its counts did, which plans take from the pods.
func (r *reconciler) onReplicaSet() handler.EventHandler {
	events := loop.Dependents(r.wakeOwner, matters)
	events.Deleted = func(ctx context.Context, rs *appsv1.ReplicaSet, q loop.Queue) {
		r.written.Forget(rs)
		r.wakeOwner(ctx, rs, q)
	}
	return events.Handler()
}

func matters(before, after *appsv1.ReplicaSet) bool {
	return before.Generation != after.Generation ||
		before.Status.ObservedGeneration != after.Status.ObservedGeneration ||
		(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		!maps.Equal(before.Labels, after.Labels) ||
		!maps.Equal(before.Annotations, after.Annotations) ||
		!equality.Semantic.DeepEqual(before.Status.Conditions, after.Status.Conditions)
}

// wakeOwner wakes the Deployment that controls a set, or those that may adopt it.
func (r *reconciler) wakeOwner(ctx context.Context, rs *appsv1.ReplicaSet, q loop.Queue) {
	if owner := metav1.GetControllerOf(rs); owner != nil {
		wake(rs, owner, q)
		return
	}
	loop.Wake(q, loop.Those(ctx, r.client, &appsv1.DeploymentList{}, func(d *appsv1.Deployment) bool {
		selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		return err == nil && selector.Matches(labels.Set(rs.Labels))
	}, client.InNamespace(rs.Namespace))...)
}

func wake(rs *appsv1.ReplicaSet, owner *metav1.OwnerReference, q loop.Queue) {
	if owner.Kind == "Deployment" {
		loop.Wake(q, loop.Named(rs.Namespace, owner.Name))
	}
}

// onPod wakes the Deployment of a pod whose state changed.
func (r *reconciler) onPod() handler.EventHandler {
	return loop.Dependents(r.wakeByPod, func(before, after *corev1.Pod) bool {
		return rollout.StateOf(before) != rollout.StateOf(after)
	}).Handler()
}

// wakeByPod finds the way from a pod by its ReplicaSet to its Deployment. A set
// that is not in the cache yet will wake the Deployment when it is.
func (r *reconciler) wakeByPod(ctx context.Context, pod *corev1.Pod, q loop.Queue) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "ReplicaSet" {
		return
	}
	var rs appsv1.ReplicaSet
	key := client.ObjectKey{Namespace: pod.Namespace, Name: owner.Name}
	if err := r.client.Get(ctx, key, &rs, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	if of := metav1.GetControllerOf(&rs); of != nil {
		wake(&rs, of, q)
	}
}

func (r *reconciler) wakeAll(ctx context.Context, namespace string, q loop.Queue) {
	loop.Wake(q, loop.Those(ctx, r.client, &appsv1.DeploymentList{}, loop.Any[*appsv1.Deployment], client.InNamespace(namespace))...)
}
