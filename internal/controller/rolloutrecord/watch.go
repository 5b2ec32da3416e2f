package rolloutrecord

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// soon wakes a Deployment within a beat: however often it is called, the
// Deployment is looked at once.
func soon(deployment types.NamespacedName, q queue) {
	q.AddAfter(reconcile.Request{NamespacedName: deployment}, beat)
}

// onDeployment wakes a Deployment at once when it says something new of its
// rollout, and soon when it says anything else.
func (r *reconciler) onDeployment() handler.EventHandler {
	now := func(object client.Object, q queue) {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(object)})
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { now(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*appsv1.Deployment), e.ObjectNew.(*appsv1.Deployment)
			if saysOf(before) != saysOf(after) {
				now(after, q)
			} else if before.ResourceVersion != after.ResourceVersion && r.memory.wakes(client.ObjectKeyFromObject(after)) {
				soon(client.ObjectKeyFromObject(after), q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { now(e.Object, q) },
	}
}

// saying is what a Deployment says of its rollout.
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
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			set := e.Object.(*appsv1.ReplicaSet)
			if deployment, ok := deploymentOf(set); ok {
				r.memory.seeSet(deployment, nil, set, !e.IsInInitialList)
				q.Add(reconcile.Request{NamespacedName: deployment})
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
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
				q.Add(reconcile.Request{NamespacedName: deployment})
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { r.memory.forgetSet(e.Object.GetUID()) },
	}
}

// deploymentOf returns the Deployment that controls a set.
func deploymentOf(set client.Object) (types.NamespacedName, bool) {
	owner := metav1.GetControllerOfNoCopy(set)
	if owner == nil || owner.Kind != "Deployment" {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: set.GetNamespace(), Name: owner.Name}, true
}

// onPod notes what happens to the pods of Deployments, and wakes the Deployment
// soon when a record wants to know; at once when it was the last one awaited.
func (r *reconciler) onPod() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { r.podChanged(ctx, e.Object.(*corev1.Pod), q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			r.podChanged(ctx, e.ObjectNew.(*corev1.Pod), q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			pod := e.Object.(*corev1.Pod)
			set, deployment, ok := r.ownersOf(ctx, pod)
			switch {
			case !ok:
				r.memory.forgetPod(pod.UID)
			case r.memory.losePod(deployment, set, pod):
				q.Add(reconcile.Request{NamespacedName: deployment})
			case r.memory.wakes(deployment):
				soon(deployment, q)
			}
		},
	}
}

func (r *reconciler) podChanged(ctx context.Context, pod *corev1.Pod, q queue) {
	if owner := metav1.GetControllerOfNoCopy(pod); owner == nil || owner.Kind != "ReplicaSet" {
		return
	}
	r.memory.seePod(pod)
	if _, deployment, ok := r.ownersOf(ctx, pod); ok && r.memory.wakes(deployment) {
		soon(deployment, q)
	}
}

// ownersOf finds the set of a pod and the Deployment of that set.
func (r *reconciler) ownersOf(ctx context.Context, pod *corev1.Pod) (set types.UID, deployment types.NamespacedName, ok bool) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != "ReplicaSet" {
		return "", deployment, false
	}
	var rs appsv1.ReplicaSet
	key := client.ObjectKey{Namespace: pod.Namespace, Name: owner.Name}
	if err := r.client.Get(ctx, key, &rs, client.UnsafeDisableDeepCopy); err != nil {
		return "", deployment, false
	}
	deployment, ok = deploymentOf(&rs)
	return owner.UID, deployment, ok
}

// onRecord wakes the target of a record that was deleted, which may need another.
func (r *reconciler) onRecord() handler.EventHandler {
	return handler.Funcs{
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			record := e.Object.(*v1alpha1.RolloutRecord)
			if record.Spec.Target.Kind == r.kind {
				q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: record.Namespace, Name: record.Spec.Target.Name}})
			}
		},
	}
}
