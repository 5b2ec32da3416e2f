package rolloutrecord

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// soon wakes a target within a beat: however often it is called, the target is
// looked at once.
func soon(target types.NamespacedName, q loop.Queue) {
	q.AddAfter(reconcile.Request{NamespacedName: target}, beat)
}

// now wakes a target at once.
func now(target types.NamespacedName, q loop.Queue) {
	loop.Wake(q, reconcile.Request{NamespacedName: target})
}

// onTarget wakes a target at once when it says something new of its rollout, and
// soon when it says anything else.
func onTarget[T client.Object](m *memory, says func(T) saying) handler.EventHandler {
	wake := func(_ context.Context, target T, q loop.Queue) { now(client.ObjectKeyFromObject(target), q) }
	return loop.Events[T]{
		Created: wake,
		Updated: func(ctx context.Context, before, after T, q loop.Queue) {
			if says(before) != says(after) {
				wake(ctx, after, q)
			} else if key := client.ObjectKeyFromObject(after); before.GetResourceVersion() != after.GetResourceVersion() && m.wakes(key) {
				soon(key, q)
			}
		},
		Deleted: wake,
	}.Handler()
}

// saying is what a target says of its rollout.
type saying struct {
	uid             types.UID
	generation      int64
	reason          string // of the Progressing condition
	revision, cause string
	failed          string
	counted         bool // all pods are new and available
}

func saysOf(d *appsv1.Deployment) saying {
	s := saying{
		uid:        d.UID,
		generation: d.Generation,
		revision:   d.Annotations[rollout.AnnotationRevision],
		cause:      d.Annotations[rollout.AnnotationChangeCause],
		failed:     d.Annotations[v1alpha1.AnnotationFailedRevision],
		counted:    d.Status.Replicas == d.Status.UpdatedReplicas && d.Status.Replicas == d.Status.AvailableReplicas,
	}
	if c := progressOf(d); c != nil {
		s.reason = c.Reason
	}
	return s
}

// onReplicaSet notes the sizes of the Deployments' sets. A new revision wakes the
// Deployment at once, a new size soon.
func (r *reconciler) onReplicaSet() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q loop.Queue) {
			set := e.Object.(*appsv1.ReplicaSet)
			if deployment, ok := deploymentOf(set); ok {
				r.memory.seeSet(deployment, nil, set, !e.IsInInitialList)
				now(deployment, q)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q loop.Queue) {
			before, after := e.ObjectOld.(*appsv1.ReplicaSet), e.ObjectNew.(*appsv1.ReplicaSet)
			deployment, ok := deploymentOf(after)
			if !ok {
				return
			}
			begins := rollout.RevisionOf(before) != rollout.RevisionOf(after)
			if begins || ptr.Deref(before.Spec.Replicas, 1) != ptr.Deref(after.Spec.Replicas, 1) {
				r.memory.seeSet(deployment, before, after, false)
				soon(deployment, q)
			}
			if begins || before.Annotations[rollout.AnnotationChangeCause] != after.Annotations[rollout.AnnotationChangeCause] {
				now(deployment, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ loop.Queue) { r.memory.forgetSet(e.Object.GetUID()) },
	}
}

// deploymentOf returns the Deployment that controls a set.
func deploymentOf(set client.Object) (types.NamespacedName, bool) { return ownerOf(set, deployment) }

// ownerOf returns the controller of an object, if it is of a kind.
func ownerOf(object client.Object, kind string) (types.NamespacedName, bool) {
	owner := metav1.GetControllerOfNoCopy(object)
	if owner == nil || owner.Kind != kind {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: owner.Name}, true
}

// onPod notes what happens to the pods of Deployments, and wakes the Deployment
// soon when a record wants to know; at once when it was the last one awaited.
func (r *reconciler) onPod() handler.EventHandler {
	return loop.Events[*corev1.Pod]{
		Created: r.podChanged,
		Updated: func(ctx context.Context, _, after *corev1.Pod, q loop.Queue) { r.podChanged(ctx, after, q) },
		Deleted: func(ctx context.Context, pod *corev1.Pod, q loop.Queue) {
			set, deployment, ok := r.ownersOf(ctx, pod)
			if !ok {
				r.memory.forgetPod(pod.UID)
				return
			}
			r.podGone(deployment, set, pod, q)
		},
	}.Handler()
}

// podGone notes that a pod of a target's set is gone. It wakes the target soon
// when a record wants to know, at once when it was the last one awaited.
func (r *reconciler) podGone(target types.NamespacedName, set types.UID, pod *corev1.Pod, q loop.Queue) {
	switch {
	case r.memory.losePod(target, set, pod):
		now(target, q)
	case r.memory.wakes(target):
		soon(target, q)
	}
}

func (r *reconciler) podChanged(ctx context.Context, pod *corev1.Pod, q loop.Queue) {
	if _, ok := ownerOf(pod, "ReplicaSet"); !ok {
		return
	}
	r.memory.seePod(pod)
	if _, deployment, ok := r.ownersOf(ctx, pod); ok && r.memory.wakes(deployment) {
		soon(deployment, q)
	}
}

// ownersOf finds the set of a pod and the Deployment of that set.
func (r *reconciler) ownersOf(ctx context.Context, pod *corev1.Pod) (set types.UID, deployment types.NamespacedName, ok bool) {
	key, ok := ownerOf(pod, "ReplicaSet")
	if !ok {
		return "", deployment, false
	}
	var rs appsv1.ReplicaSet
	if err := r.client.Get(ctx, key, &rs, client.UnsafeDisableDeepCopy); err != nil {
		return "", deployment, false
	}
	deployment, ok = deploymentOf(&rs)
	return owned.ControllerOf(pod), deployment, ok
}

// onRecord wakes the target of a record that was deleted, which may need another.
func (r *reconciler) onRecord() handler.EventHandler {
	return loop.Events[*v1alpha1.RolloutRecord]{
		Deleted: func(_ context.Context, record *v1alpha1.RolloutRecord, q loop.Queue) {
			if record.Spec.Target.Kind == r.kind {
				loop.Wake(q, loop.Named(record.Namespace, record.Spec.Target.Name))
			}
		},
	}.Handler()
}
