package rolloutrecord

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// The reasons of a record's phase that are not a Deployment's own.
const (
	ReasonPodsStarting = "PodsStarting" // new pods are not available yet
	ReasonPodsFailing  = "PodsFailing"  // new pods will not be available without a change
	ReasonPodsStopping = "PodsStopping" // old pods are still there
	ReasonNewRevision  = "NewRevision"  // another revision is wanted
	ReasonNewSelector  = "NewSelector"  // another selector is wanted

	// ReasonNewRevisionAvailable is for a StatefulSet what a Deployment calls
	// rollout.ReasonNewReplicaSetAvailable.
	ReasonNewRevisionAvailable = "NewRevisionAvailable"
)

// judge sets how the rollout of the current revision stands, from what the
// Deployment says, and the counts of its pods.
func (d *decision) judge(book *Book, record *v1alpha1.RolloutRecord) {
	d.count(book, record)
	progress := d.progress()
	noted := d.Deployment.Annotations[rollout.AnnotationRevision] == strconv.FormatInt(record.Spec.Revision, 10)
	switch {
	case noted && d.complete(progress):
		d.finish(book, v1alpha1.RolloutCompleted, d.availableReason(),
			fmt.Sprintf("%s available", countOf(book.updated, "new pod")), progress)
	case book.phase == v1alpha1.RolloutFailed:
	case noted && progress != nil && progress.Reason == rollout.ReasonDeadlineExceeded:
		d.finish(book, v1alpha1.RolloutFailed, progress.Reason, d.inVain(book, record), progress)
	case d.failed(record.Spec.Revision) && !d.goesBack():
		reason, message := d.failure()
		d.finish(book, v1alpha1.RolloutFailed, reason, message, nil)
	case d.Deployment.Spec.Paused:
		book.phase = v1alpha1.RolloutPaused
	default:
		book.phase = v1alpha1.RolloutProgressing
	}
}

func (d *decision) availableReason() string {
	if d.stateful() {
		return ReasonNewRevisionAvailable
	}
	return rollout.ReasonNewReplicaSetAvailable
}

// finish gives a rollout an outcome, as of the time of a condition if there is one.
func (d *decision) finish(book *Book, phase v1alpha1.RolloutPhase, reason, message string, c *appsv1.DeploymentCondition) {
	book.phase, book.reason, book.message = phase, reason, bounded(message, maxNote)
	book.endedAt = moment(d.Now)
	if c != nil {
		book.endedAt = first(refined(c.LastUpdateTime.Time, d.Now), book.endedAt)
	}
}

// close ends a rollout because the next one has begun.
func (d *decision) close(book *Book, record, next *v1alpha1.RolloutRecord) {
	switch {
	case d.failed(record.Spec.Revision) && d.goesBack():
		reason, message := d.failure()
		book.phase, book.reason, book.message = v1alpha1.RolloutRolledBack, reason, bounded(message, maxNote)
	case book.phase == v1alpha1.RolloutFailed:
		return
	default:
		book.phase, book.reason = v1alpha1.RolloutSuperseded, ReasonNewRevision
		book.message = fmt.Sprintf("revision %d is wanted", next.Spec.Revision)
	}
	book.endedAt = moment(next.Spec.StartedAt.Time)
}

// failed says whether a revision is the one that the Deployment notes as failed.
func (d *decision) failed(revision int64) bool {
	return d.Deployment.Annotations[v1alpha1.AnnotationFailedRevision] == strconv.FormatInt(revision, 10)
}

// goesBack says whether the revision that failed was rolled back.
func (d *decision) goesBack() bool {
	return d.Deployment.Annotations[v1alpha1.AnnotationFailedAction] == string(v1alpha1.OnFailureRollback)
}

// failure returns why the revision that failed did.
func (d *decision) failure() (reason, message string) {
	because := d.Deployment.Annotations[v1alpha1.AnnotationFailedBecause]
	if reason, message, ok := strings.Cut(because, ": "); ok {
		return reason, message
	}
	return ReasonPodsFailing, because
}

// complete says whether the Deployment calls its rollout complete. One without
// a deadline has no condition that says so.
func (d *decision) complete(progress *appsv1.DeploymentCondition) bool {
	if progress != nil {
		return progress.Reason == rollout.ReasonNewReplicaSetAvailable
	}
	st, wanted := &d.Deployment.Status, ptr.Deref(d.Deployment.Spec.Replicas, 1)
	bounded := ptr.Deref(d.Deployment.Spec.ProgressDeadlineSeconds, math.MaxInt32) != math.MaxInt32
	return !bounded && !d.Deployment.Spec.Paused && st.ObservedGeneration >= d.Deployment.Generation &&
		st.UpdatedReplicas == wanted && st.Replicas == wanted && st.AvailableReplicas == wanted
}

func (d *decision) progress() *appsv1.DeploymentCondition { return progressOf(d.Deployment) }

func progressOf(deployment *appsv1.Deployment) *appsv1.DeploymentCondition {
	for i := range deployment.Status.Conditions {
		if c := &deployment.Status.Conditions[i]; c.Type == appsv1.DeploymentProgressing {
			return c
		}
	}
	return nil
}

// count counts the pods of both sides.
func (d *decision) count(book *Book, record *v1alpha1.RolloutRecord) {
	book.replicas, book.updated, book.available = 0, 0, 0
	for _, rs := range d.ReplicaSets {
		counts, next := d.countSet(rs)
		d.wakeBy(next)
		book.replicas += counts.Active
		book.available += counts.Available
		if rs.Name == record.Spec.To.Name {
			book.updated = counts.Active
		}
	}
}

func (d *decision) countSet(rs *appsv1.ReplicaSet) (rollout.Counts, time.Time) {
	var there []*corev1.Pod
	for _, pod := range d.Pods[rs.UID] {
		if pod.Gone.IsZero() {
			there = append(there, pod.Pod)
		}
	}
	return rollout.Count(there, d.Deployment.Spec.MinReadySeconds, d.Now)
}

// explain says what a rollout waits for.
func (d *decision) explain(book *Book, record *v1alpha1.RolloutRecord) {
	if book.phase == v1alpha1.RolloutPaused {
		book.reason = rollout.ReasonPaused
		book.message = fmt.Sprintf("paused with %s", d.soFar(record))
		return
	}
	book.reason, book.message = ReasonPodsStarting, d.soFar(record)
	wanted := ptr.Deref(d.Deployment.Spec.Replicas, 1)
	var counts rollout.Counts
	if set := d.setNamed(record.Spec.To.Name); set != nil {
		counts, _ = d.countSet(set)
	}
	old := book.replicas - book.updated
	stopping := int32(book.unfinished())
	if counts.Available >= wanted || record.Spec.Strategy.Type == string(appsv1.RecreateDeploymentStrategyType) && book.updated == 0 {
		if n := max(old, stopping); n > 0 {
			book.reason = ReasonPodsStopping
			book.message += fmt.Sprintf("; %s to stop", countOf(n, "old pod"))
		}
		return
	}
	if trouble := d.trouble(book, record); trouble != "" {
		book.reason = ReasonPodsFailing
		book.message = bounded(book.message+"; "+trouble, maxNote)
	}
}

// soFar says how many of the new pods are available.
func (d *decision) soFar(record *v1alpha1.RolloutRecord) string {
	var counts rollout.Counts
	if set := d.setNamed(record.Spec.To.Name); set != nil {
		counts, _ = d.countSet(set)
	}
	return fmt.Sprintf("%d of %d new pods available", counts.Available, ptr.Deref(d.Deployment.Spec.Replicas, 1))
}

// inVain says how far a rollout came that missed its deadline, and what is wrong.
func (d *decision) inVain(book *Book, record *v1alpha1.RolloutRecord) string {
	message := fmt.Sprintf("no progress in %d seconds; %s", ptr.Deref(d.Deployment.Spec.ProgressDeadlineSeconds, 0), d.soFar(record))
	if trouble := d.trouble(book, record); trouble != "" {
		message += "; " + trouble
	}
	return message
}

// trouble says what is wrong with the new pods: with the one that has been there
// longest, or why none can be made.
func (d *decision) trouble(book *Book, record *v1alpha1.RolloutRecord) string {
	var bad []entry
	for _, e := range book.pods {
		if e.Set == record.Spec.To.Name && e.Note != "" && e.StopRequested == nil && e.Available == nil {
			bad = append(bad, e)
		}
	}
	if len(bad) > 0 {
		e := slices.MinFunc(bad, func(a, b entry) int { return cmp.Or(byCreation(a, b), cmp.Compare(a.Name, b.Name)) })
		return e.Name + ": " + e.Note
	}
	for _, c := range d.Deployment.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return c.Reason + ": " + c.Message
		}
	}
	return ""
}

func countOf[N int | int32](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
