package rolloutrecord

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/rollout"
)

// readStatefulSet reads a StatefulSet, its revisions and pods in the form of a
// Deployment.
func (r *reconciler) readStatefulSet(ctx context.Context, key types.NamespacedName, f *Facts) error {
	var set appsv1.StatefulSet
	if err := r.client.Get(ctx, key, &set, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	var list appsv1.ControllerRevisionList
	if err := r.list(ctx, &list, key.Namespace, controllerIndex, set.UID); err != nil {
		return fmt.Errorf("list controller revisions: %w", err)
	}
	revisions := make([]*appsv1.ControllerRevision, len(list.Items))
	for i := range list.Items {
		revisions[i] = &list.Items[i]
	}
	pods, err := r.pods(ctx, key.Namespace, set.UID)
	if err != nil {
		return err
	}
	view := rollout.ViewOf(&set, revisions, pods)
	f.Deployment, f.ReplicaSets = view.Deployment, view.Sets
	for _, pod := range view.Pods {
		of := metav1.GetControllerOfNoCopy(pod).UID
		f.Pods[of] = append(f.Pods[of], Pod{Pod: pod})
	}
	return nil
}

func statefulSaysOf(set *appsv1.StatefulSet) saying {
	st := &set.Status
	return saying{
		uid:        set.UID,
		generation: set.Generation,
		reason:     fmt.Sprint(st.ObservedGeneration >= set.Generation),
		revision:   st.UpdateRevision,
		cause:      set.Annotations[rollout.AnnotationChangeCause],
		failed:     set.Annotations[v1alpha1.AnnotationFailedRevision],
		counted:    st.Replicas == st.UpdatedReplicas && st.Replicas == st.AvailableReplicas,
	}
}

// onRevision notes when a revision begins, and wakes its StatefulSet at once.
func (r *reconciler) onRevision() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q loop.Queue) {
			revision := e.Object.(*appsv1.ControllerRevision)
			if set, ok := statefulSetOf(revision); ok {
				r.memory.seeRevision(set, nil, revision, !e.IsInInitialList)
				now(set, q)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q loop.Queue) {
			before, after := e.ObjectOld.(*appsv1.ControllerRevision), e.ObjectNew.(*appsv1.ControllerRevision)
			if set, ok := statefulSetOf(after); ok {
				r.memory.seeRevision(set, before, after, false)
				now(set, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ loop.Queue) { r.memory.forgetSet(e.Object.GetUID()) },
	}
}

// statefulSetOf returns the StatefulSet that controls an object.
func statefulSetOf(object client.Object) (types.NamespacedName, bool) {
	return ownerOf(object, statefulSet)
}

// onStatefulPod notes what happens to the pods of StatefulSets, and how many of
// each revision there are, as onPod does for Deployments.
func (r *reconciler) onStatefulPod() handler.EventHandler {
	changed := func(pod *corev1.Pod, fresh bool, q loop.Queue) {
		set, ok := statefulSetOf(pod)
		if !ok {
			return
		}
		r.memory.seePod(pod)
		if r.memory.seeActive(set, pod, rollout.StateOf(pod).Active, fresh) || r.memory.wakes(set) {
			soon(set, q)
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q loop.Queue) {
			changed(e.Object.(*corev1.Pod), !e.IsInInitialList, q)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q loop.Queue) {
			changed(e.ObjectNew.(*corev1.Pod), true, q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q loop.Queue) {
			pod := e.Object.(*corev1.Pod)
			set, ok := statefulSetOf(pod)
			if !ok {
				r.memory.forgetPod(pod.UID)
				return
			}
			r.memory.seeActive(set, pod, false, true)
			var revision appsv1.ControllerRevision
			key := client.ObjectKey{Namespace: pod.Namespace, Name: pod.Labels[appsv1.StatefulSetRevisionLabel]}
			if err := r.client.Get(ctx, key, &revision, client.UnsafeDisableDeepCopy); err != nil {
				r.memory.forgetPod(pod.UID)
				return
			}
			r.podGone(set, revision.UID, pod, q)
		},
	}
}

// seeRevision notes that a revision of a StatefulSet has another number than
// before; before is nil when it was not known, and fresh says that it is new and
// not only new to us.
func (m *memory) seeRevision(set types.NamespacedName, before, revision *appsv1.ControllerRevision, fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before != nil && before.Revision == revision.Revision {
		return
	}
	if before != nil || fresh {
		m.sets[revision.UID] = Beginning{Revision: revision.Revision, At: m.now()}
	}
	m.of(set).idle = false
}

// seeActive counts a pod of a StatefulSet among those of its revision while it is
// active, and notes the new size. fresh says that it has changed, and is not only
// new to us. It says whether the size is new.
func (m *memory) seeActive(set types.NamespacedName, pod *corev1.Pod, active, fresh bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	revision := pod.Labels[appsv1.StatefulSetRevisionLabel]
	if _, was := m.active[pod.UID]; was == active {
		return false
	}
	n := m.of(set)
	if n.active == nil {
		n.active = map[string]int32{}
	}
	from, why := n.active[revision], "pod "+pod.Name+" is made"
	if active {
		m.active[pod.UID] = struct{}{}
		n.active[revision]++
	} else {
		delete(m.active, pod.UID)
		n.active[revision]--
		why = "pod " + pod.Name + " is to go"
	}
	size := Size{Time: m.now(), Set: revision, To: n.active[revision]}
	if fresh {
		size.From, size.Why = &from, why
	}
	if len(n.sizes) < maxNotes {
		n.sizes = append(n.sizes, size)
	}
	n.idle = false
	return true
}
