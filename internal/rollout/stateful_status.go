package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"windlass.dev/windlass/api/v1alpha1"
)

// counts returns the status as the pods are. Those that are going count as
// replicas, and as nothing more.
func (d *statefulDraft) counts() appsv1.StatefulSetStatus {
	st := *d.Set.Status.DeepCopy()
	st.ObservedGeneration = d.Set.Generation
	st.Replicas, st.ReadyReplicas, st.AvailableReplicas, st.CurrentReplicas, st.UpdatedReplicas = 0, 0, 0, 0, 0
	current, update := d.history.current.name(), d.history.update.name()
	for _, s := range append(d.condemned, d.slots...) {
		if s.pod == nil {
			continue
		}
		st.Replicas++
		if s.pod.DeletionTimestamp != nil {
			continue
		}
		if s.state.Active && s.state.Ready {
			st.ReadyReplicas++
		}
		if s.available {
			st.AvailableReplicas++
		}
		switch revisionOfPod(s.pod) {
		case update:
			st.UpdatedReplicas++
			if current == update {
				st.CurrentReplicas++
			}
		case current:
			st.CurrentReplicas++
		}
	}
	st.CurrentRevision, st.UpdateRevision = current, update
	st.CollisionCount = d.history.collisions
	return st
}

// report adds the steps that set the status and mark a revision that is complete.
// A revision becomes the current one when all pods have it and are ready. While
// none are wanted, it does so only if there is no partition to keep another one.
func (d *statefulDraft) report() {
	st, replicas := d.counts(), int32(len(d.slots))
	all := st.Replicas == replicas && st.UpdatedReplicas == replicas && st.ReadyReplicas == replicas
	if all && (replicas > 0 || partitionOf(d.Set) == 0) {
		st.CurrentRevision, st.CurrentReplicas = st.UpdateRevision, st.UpdatedReplicas
	}
	if d.Set.DeletionTimestamp == nil {
		d.markComplete(&st)
	}
	if !equality.Semantic.DeepEqual(st, d.Set.Status) {
		d.do(SetStatefulStatus{Status: st})
	}
	if d.Set.DeletionTimestamp == nil {
		d.answerFailure(&st)
	}
}

// markComplete notes on the wanted revision that its rollout was complete: that
// all pods that there should be had it, and were available.
func (d *statefulDraft) markComplete(st *appsv1.StatefulSetStatus) {
	update, replicas := d.history.update, int32(len(d.slots))
	if replicas == 0 || st.Replicas != replicas || st.UpdatedReplicas != replicas || st.AvailableReplicas != replicas {
		return
	}
	if d.history.begins || update.object.Annotations[v1alpha1.AnnotationCompleted] == update.numberText() {
		return
	}
	d.do(DescribeRevision{
		Revision:    update.object,
		Number:      update.number,
		Annotations: map[string]string{v1alpha1.AnnotationCompleted: update.numberText()},
		Why:         fmt.Sprintf("revision %d is complete", update.number),
	})
}
