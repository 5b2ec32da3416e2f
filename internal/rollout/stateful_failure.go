package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// halted says whether the rollout to the wanted revision has failed and is to go
// no further until another is wanted, or somebody takes the note away.
func (d *statefulDraft) halted() bool {
	return d.Set.Annotations[v1alpha1.AnnotationFailedRevision] == d.history.update.numberText() &&
		d.Set.Annotations[v1alpha1.AnnotationFailedAction] == string(v1alpha1.OnFailurePause)
}

// answerFailure adds the step that deals with a rollout that has failed, once for
// each revision, as the Deployment's does. A StatefulSet has no deadline: what
// counts is what its pods say.
func (d *statefulDraft) answerFailure(st *appsv1.StatefulSetStatus) {
	policy := PolicyOf(d.Set, d.OnFailure)
	update := d.history.update
	if policy == v1alpha1.OnFailureKeep || d.history.begins || d.Set.Annotations[v1alpha1.AnnotationFailedRevision] == update.numberText() {
		return
	}
	because := d.failure(st)
	if because == "" {
		return
	}
	failed := Failure{Revision: update.numberText(), Because: because}
	if policy == v1alpha1.OnFailurePause {
		d.do(Pause{Failure: failed, Stateful: true})
		return
	}
	target := d.history.lastComplete()
	switch {
	case update.done():
		d.do(GiveUp{Failure: failed, Why: fmt.Sprintf("it was complete as revision %s, and what was good once is not gone back from", update.object.Annotations[v1alpha1.AnnotationCompleted])})
	case target == nil:
		d.do(GiveUp{Failure: failed, Why: "no earlier revision was ever complete"})
	default:
		d.do(Rollback{Failure: failed, Name: target.object.Name, ToRevision: target.number, Template: *target.template.DeepCopy(), Stateful: true})
	}
}

// failure says why the rollout to the wanted revision has failed: a reason and a
// sentence; nothing when it has not, or is over. It has when the plan can do
// nothing, and every pod that it waits for fails for a reason that waiting will
// not mend.
func (d *statefulDraft) failure(st *appsv1.StatefulSetStatus) string {
	update := d.history.update
	if update.object.Annotations[v1alpha1.AnnotationCompleted] == update.numberText() || d.moves() {
		return ""
	}
	var failing []*corev1.Pod
	for _, s := range d.slots {
		switch {
		case s.pod == nil:
		case s.going() || s.finished():
			return ""
		case s.state.Ready || revisionOfPod(s.pod) != update.name():
		case s.state.Failing == "":
			return ""
		default:
			failing = append(failing, s.pod)
		}
	}
	return exampleOf(failing)
}

// moves says whether the plan makes or deletes a pod.
func (d *statefulDraft) moves() bool {
	for _, s := range append(d.condemned, d.slots...) {
		if s.touched {
			return true
		}
	}
	return false
}
