package rollout

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// The reasons of a Deployment's conditions.
const (
	ReasonNewReplicaSetCreated   = "NewReplicaSetCreated"
	ReasonFoundNewReplicaSet     = "FoundNewReplicaSet"
	ReasonReplicaSetUpdated      = "ReplicaSetUpdated"
	ReasonReplicaSetCreateError  = "ReplicaSetCreateError"
	ReasonNewReplicaSetAvailable = "NewReplicaSetAvailable"
	ReasonDeadlineExceeded       = "ProgressDeadlineExceeded"
	ReasonPaused                 = "DeploymentPaused"
	ReasonResumed                = "DeploymentResumed"
	ReasonMinimumAvailable       = "MinimumReplicasAvailable"
	ReasonMinimumUnavailable     = "MinimumReplicasUnavailable"
)

// counts returns the status as the pods are, with the conditions as they were.
func (d *draft) counts() appsv1.DeploymentStatus {
	st := *d.deployment.Status.DeepCopy()
	st.ObservedGeneration = d.deployment.Generation
	st.Replicas, st.UpdatedReplicas, st.ReadyReplicas, st.AvailableReplicas = 0, 0, 0, 0
	var terminating int32
	for _, s := range d.sets {
		st.Replicas += s.pods.Active
		st.ReadyReplicas += s.pods.Ready
		st.AvailableReplicas += s.pods.Available
		terminating += s.pods.Terminating
		if s == d.new {
			st.UpdatedReplicas = s.pods.Active
		}
	}
	st.TerminatingReplicas = &terminating
	st.UnavailableReplicas = max(d.total()-st.AvailableReplicas, 0)
	return st
}

// report adds the steps that set the status and note the revision, if they
// change. The revision comes last: until it is noted, a rollout begins.
func (d *draft) report() {
	d.status.UnavailableReplicas = max(d.total()-d.status.AvailableReplicas, 0)
	d.status.CollisionCount = d.collisions
	d.reportAvailable()
	if d.deployment.DeletionTimestamp == nil {
		d.reportPaused()
		if !d.deployment.Spec.Paused {
			d.reportProgress()
		}
	}
	d.reportFailure()
	if !equality.Semantic.DeepEqual(d.status, d.deployment.Status) {
		d.do(SetStatus{Status: d.status})
	}
	d.noteRevision()
	if !d.deployment.Spec.Paused {
		d.answerFailure()
	}
	d.wait()
}

func (d *draft) reportAvailable() {
	if d.status.AvailableReplicas >= d.budget.MinAvailable() {
		d.condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, ReasonMinimumAvailable, "Deployment has minimum availability.")
		return
	}
	d.condition(appsv1.DeploymentAvailable, corev1.ConditionFalse, ReasonMinimumUnavailable, "Deployment does not have minimum availability.")
}

// reportPaused notes when a Deployment is paused or resumed, so that the time it
// was paused does not count against its deadline.
func (d *draft) reportPaused() {
	if _, bounded := d.deadline(); !bounded {
		return
	}
	reason := d.progressReason()
	switch paused := d.deployment.Spec.Paused; {
	case reason == ReasonDeadlineExceeded && paused && !d.begins(): // worth keeping
	case paused && reason != ReasonPaused:
		d.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, ReasonPaused, "Deployment is paused"+d.pausedBecause())
	case !paused && reason == ReasonPaused:
		d.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, ReasonResumed, "Deployment is resumed")
	}
}

// reportProgress sets the Progressing condition: from a set created or found,
// by way of each change for the better, to complete, or to a deadline missed.
func (d *draft) reportProgress() {
	deadline, bounded := d.deadline()
	if !bounded {
		d.status.Conditions = slices.DeleteFunc(d.status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentProgressing
		})
		return
	}
	fresh := d.new != nil && d.new.fresh
	starts := fresh || d.begins()
	reason := d.progressReason()
	switch {
	case fresh:
		d.progress(corev1.ConditionTrue, ReasonNewReplicaSetCreated, "Created new replica set %q")
	case starts || d.new != nil && reason == "":
		d.progress(corev1.ConditionTrue, ReasonFoundNewReplicaSet, "Found new replica set %q")
	case reason == ReasonNewReplicaSetAvailable && d.status.Replicas == d.status.UpdatedReplicas:
		return // a complete Deployment that is resized, or loses a pod, is not rolling
	}
	switch {
	case d.complete():
		d.progress(corev1.ConditionTrue, ReasonNewReplicaSetAvailable, "ReplicaSet %q has successfully progressed.")
		return
	case d.progressed() && !starts:
		d.progress(corev1.ConditionTrue, ReasonReplicaSetUpdated, "ReplicaSet %q is progressing.")
	case d.overdue(deadline):
		d.progress(corev1.ConditionFalse, ReasonDeadlineExceeded, "ReplicaSet %q has timed out progressing.")
		return
	}
	if c := d.progressing(); c != nil && c.Reason != ReasonNewReplicaSetAvailable {
		d.wake.by(c.LastUpdateTime.Add(deadline))
	}
}

// progress sets the Progressing condition. Its time of update becomes now, from
// which the deadline counts, except when it was complete or overdue already.
func (d *draft) progress(status corev1.ConditionStatus, reason, format string) {
	name := d.deployment.Name
	if d.new != nil {
		name = d.new.rs.Name
	}
	d.condition(appsv1.DeploymentProgressing, status, reason, fmt.Sprintf(format, name))
	if c := d.progressing(); reason != ReasonNewReplicaSetAvailable && reason != ReasonDeadlineExceeded {
		c.Message, c.LastUpdateTime = fmt.Sprintf(format, name), metav1.NewTime(d.Now)
	}
}

// reportFailure passes on that a set cannot make or stop its pods; what the new
// set says goes first.
func (d *draft) reportFailure() {
	var found *appsv1.ReplicaSetCondition
	for _, s := range d.sets {
		for i := range s.rs.Status.Conditions {
			c := &s.rs.Status.Conditions[i]
			if c.Type == appsv1.ReplicaSetReplicaFailure && (found == nil || s == d.new) {
				found = c
			}
		}
	}
	if found == nil {
		d.status.Conditions = slices.DeleteFunc(d.status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentReplicaFailure
		})
		return
	}
	d.condition(appsv1.DeploymentReplicaFailure, found.Status, found.Reason, found.Message)
}

// wait says what a rollout that goes on waits for, unless that is said already.
func (d *draft) wait() {
	switch {
	case d.waiting != "" || d.deployment.DeletionTimestamp != nil || d.complete():
	case d.deployment.Spec.Paused:
		d.waiting = "the Deployment to be resumed"
	case d.new == nil:
	case d.new.sure(d.new.spec) < d.new.spec:
		d.waiting = fmt.Sprintf("%s of %s to become available", pods(d.new.spec-d.new.sure(d.new.spec), "pod"), d.new.rs.Name)
	case d.total() > d.budget.Replicas || d.status.Replicas > d.budget.Replicas:
		d.waiting = "pods to stop"
	}
}

// progressed says whether there are more updated, ready or available pods, or
// fewer old ones, than were reported last.
func (d *draft) progressed() bool {
	now, was := &d.status, &d.deployment.Status
	return now.UpdatedReplicas > was.UpdatedReplicas ||
		now.ReadyReplicas > was.ReadyReplicas ||
		now.AvailableReplicas > was.AvailableReplicas ||
		now.Replicas-now.UpdatedReplicas < was.Replicas-was.UpdatedReplicas
}

// overdue says whether the last progress is longer ago than the deadline.
func (d *draft) overdue(deadline time.Duration) bool {
	c := d.progressing()
	if c == nil || c.Reason == ReasonNewReplicaSetAvailable {
		return false
	}
	return c.Reason == ReasonDeadlineExceeded || !c.LastUpdateTime.Add(deadline).After(d.Now)
}

// deadline returns progressDeadlineSeconds, false when there is none.
func (d *draft) deadline() (time.Duration, bool) {
	seconds := ptr.Deref(d.deployment.Spec.ProgressDeadlineSeconds, math.MaxInt32)
	return time.Duration(seconds) * time.Second, seconds != math.MaxInt32
}

// progressing returns the Progressing condition as it will be reported, or nil.
func (d *draft) progressing() *appsv1.DeploymentCondition {
	return conditionOf(&d.status, appsv1.DeploymentProgressing)
}

func (d *draft) progressReason() string {
	if c := d.progressing(); c != nil {
		return c.Reason
	}
	return ""
}

func (d *draft) condition(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	setCondition(&d.status, kind, status, reason, message, d.Now)
}

// setCondition sets a condition. One that has the same status and reason
// already is left as it is.
func setCondition(st *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) {
	at := metav1.NewTime(now)
	c := conditionOf(st, kind)
	if c == nil {
		st.Conditions = append(st.Conditions, appsv1.DeploymentCondition{Type: kind, LastTransitionTime: at})
		c = &st.Conditions[len(st.Conditions)-1]
	}
	if c.Status == status && c.Reason == reason {
		return
	}
	if c.Status != status {
		c.LastTransitionTime = at
	}
	c.Status, c.Reason, c.Message, c.LastUpdateTime = status, reason, message, at
}

func conditionOf(st *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == kind {
			return &st.Conditions[i]
		}
	}
	return nil
}

// CreateFailed returns the status of a Deployment whose new ReplicaSet could not
// be created for the given reason.
func CreateFailed(deployment *appsv1.Deployment, reason string, now time.Time) appsv1.DeploymentStatus {
	st := *deployment.Status.DeepCopy()
	setCondition(&st, appsv1.DeploymentProgressing, corev1.ConditionFalse, ReasonReplicaSetCreateError, reason, now)
	return st
}
