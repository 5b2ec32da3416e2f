package rollout

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// Failure says that the rollout to a revision has failed. It is noted on the
// Deployment, or StatefulSet, in the same write as what is done about it, and that
// write must fail if the workload has changed in any way since it was read.
type Failure struct {
	Revision string
	Because  string // a reason in CamelCase, ": ", and a sentence
}

// Rollback brings back the template of the latest set, or revision, whose rollout
// was complete.
type Rollback struct {
	Failure
	Name       string // of the ReplicaSet, or ControllerRevision
	ToRevision int64  // that it has now; it gets a new one
	Stateful   bool   // it is a StatefulSet's

	// Template is what the workload's becomes.
	Template corev1.PodTemplateSpec
}

// Pause pauses the Deployment. A StatefulSet has no such field: there the note is
// all, and keeps the rollout from going on.
type Pause struct {
	Failure
	Stateful bool // it is a StatefulSet's
}

// GiveUp notes that a rollout should be rolled back, and cannot be.
type GiveUp struct {
	Failure
	Why string
}

// Note returns the annotations to set on the Deployment.
func (s Rollback) Note() map[string]string { return s.note(v1alpha1.OnFailureRollback) }

// Note returns the annotations to set on the Deployment.
func (s Pause) Note() map[string]string { return s.note(v1alpha1.OnFailurePause) }

// Note returns the annotations to set on the Deployment.
func (s GiveUp) Note() map[string]string { return s.note(v1alpha1.OnFailureKeep) }

func (f Failure) note(action v1alpha1.FailurePolicy) map[string]string {
	return map[string]string{
		v1alpha1.AnnotationFailedRevision: f.Revision,
		v1alpha1.AnnotationFailedBecause:  f.Because,
		v1alpha1.AnnotationFailedAction:   string(action),
	}
}

func (f Failure) sentence() string {
	return fmt.Sprintf("revision %s failed: %s", f.Revision, f.Because)
}

func (s Rollback) String() string {
	return line(fmt.Sprintf("rollback to %s, revision %d", s.Name, s.ToRevision), s.sentence())
}

func (s Pause) String() string { return line("pause", s.sentence()) }

func (s GiveUp) String() string { return line("give up", s.sentence()+"; "+s.Why) }

// Event implements Step.
func (s Rollback) Event() (Event, bool) {
	reason, source := "DeploymentRollback", "replica set"
	if s.Stateful {
		reason, source = "StatefulSetRollback", "controller revision"
	}
	return Event{
		Type:    corev1.EventTypeWarning,
		Reason:  reason,
		Message: fmt.Sprintf("Rolled back to revision %d, %s %s: %s", s.ToRevision, source, s.Name, s.sentence()),
	}, true
}

// Event implements Step.
func (s Pause) Event() (Event, bool) {
	return Event{Type: corev1.EventTypeWarning, Reason: "RolloutFailed", Message: "Paused: " + s.sentence()}, true
}

// Event implements Step.
func (s GiveUp) Event() (Event, bool) {
	return Event{Type: corev1.EventTypeWarning, Reason: "RollbackImpossible", Message: "Not rolled back: " + s.sentence() + "; " + s.Why}, true
}
