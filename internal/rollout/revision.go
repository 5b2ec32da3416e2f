package rollout

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// The annotations by which Kubernetes, and kubectl, keep a Deployment's history.
const (
	// AnnotationRevision is, on a ReplicaSet, the number of the rollout that it
	// last was the new set of; on a Deployment, that of its new set.
	AnnotationRevision = "deployment.kubernetes.io/revision"

	// AnnotationRevisionHistory lists the earlier revisions of a ReplicaSet that
	// was made new again by an undo, with commas between.
	AnnotationRevisionHistory = "deployment.kubernetes.io/revision-history"

	// AnnotationDesiredReplicas is, on a ReplicaSet, the size of its Deployment
	// when the set was last scaled: where it differs, the Deployment was resized.
	AnnotationDesiredReplicas = "deployment.kubernetes.io/desired-replicas"

	// AnnotationMaxReplicas is the same with the surge added.
	AnnotationMaxReplicas = "deployment.kubernetes.io/max-replicas"

	// AnnotationChangeCause is what `kubectl rollout history` prints.
	AnnotationChangeCause = "kubernetes.io/change-cause"
)

// maxHistoryLength bounds AnnotationRevisionHistory, in bytes.
const maxHistoryLength = 2000

// maxBackLength bounds the cause of a rollback, in bytes.
const maxBackLength = 160

// notCopied are the Deployment's annotations that say nothing of a revision, and
// its cause, which is copied only where it belongs.
var notCopied = append([]string{
	corev1.LastAppliedConfigAnnotation,
	AnnotationRevision,
	AnnotationRevisionHistory,
	AnnotationDesiredReplicas,
	AnnotationMaxReplicas,
	appsv1.DeprecatedRollbackTo,
	AnnotationChangeCause,
	v1alpha1.AnnotationChangedBy,
	v1alpha1.AnnotationNotedCause,
}, append(ofFailure, ofSets...)...)

// ofSets are annotations that have no meaning on a Deployment. An undo by kubectl
// copies them to it, with all others of the old set.
var ofSets = []string{v1alpha1.AnnotationCompleted, v1alpha1.AnnotationScaledBecause, v1alpha1.AnnotationComputedCause}

// ofFailure are the Deployment's annotations that say what was done about a
// revision that failed.
var ofFailure = []string{v1alpha1.AnnotationFailedRevision, v1alpha1.AnnotationFailedBecause, v1alpha1.AnnotationFailedAction}

// revisionOf returns the revision of a set, 0 when it has none.
func revisionOf(rs *appsv1.ReplicaSet) int64 {
	return parseRevision(rs.Annotations[AnnotationRevision])
}

func parseRevision(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// describeNew gives the new set its revision, one above all others, its cause, and
// the Deployment's annotations.
func (d *draft) describeNew() {
	s := d.new
	if s == nil || s.fresh || s.going() {
		return
	}
	annotations := maps.Clone(without(d.deployment.Annotations, notCopied...))
	if annotations == nil {
		annotations = map[string]string{}
	}
	why := "its annotations follow the Deployment's"
	if next := d.nextRevision(); revisionOf(s.rs) < next {
		annotations[AnnotationRevision] = strconv.FormatInt(next, 10)
		why = "its template is wanted: it becomes revision " + annotations[AnnotationRevision]
		if was := s.rs.Annotations[AnnotationRevision]; was != "" {
			annotations[AnnotationRevisionHistory] = appendHistory(s.rs.Annotations[AnnotationRevisionHistory], was)
			why += " again, after " + was
		}
	}
	maps.Copy(annotations, d.causeOfNew(s))
	if s.rs.Spec.MinReadySeconds != d.deployment.Spec.MinReadySeconds || !s.has(annotations) {
		d.do(Describe{ReplicaSet: s.rs, Annotations: annotations, MinReadySeconds: d.deployment.Spec.MinReadySeconds, Why: why})
	}
	d.revision = strconv.FormatInt(max(revisionOf(s.rs), d.nextRevision()), 10)
}

// describeOld has the old sets follow the Deployment in what it does on failure,
// so that an undo by kubectl, which brings back a set's annotations, keeps it.
func (d *draft) describeOld() {
	policy := d.deployment.Annotations[v1alpha1.AnnotationOnFailure]
	for _, s := range d.old() {
		if policy != "" && !s.going() && s.rs.Annotations[v1alpha1.AnnotationOnFailure] != policy {
			d.do(Describe{
				ReplicaSet:      s.rs,
				Annotations:     map[string]string{v1alpha1.AnnotationOnFailure: policy},
				MinReadySeconds: s.rs.Spec.MinReadySeconds,
				Why:             "an undo keeps what is done on failure",
			})
		}
	}
}

// markCompleted notes on the new set that its rollout was complete. One without
// pods has shown nothing.
func (d *draft) markCompleted() {
	mark := map[string]string{v1alpha1.AnnotationCompleted: d.revision}
	if d.budget.Replicas > 0 && d.revision != "" && !d.new.has(mark) {
		d.do(Describe{
			ReplicaSet:      d.new.rs,
			Annotations:     mark,
			MinReadySeconds: d.deployment.Spec.MinReadySeconds,
			Why:             "revision " + d.revision + " is complete",
		})
	}
}

// has says whether the set has some annotations.
func (s *set) has(annotations map[string]string) bool {
	for k, v := range annotations {
		if have, has := s.rs.Annotations[k]; !has || have != v {
			return false
		}
	}
	return true
}

// begins says whether the new set has become the new one since the Deployment's
// status was last written: its revision is noted after that.
func (d *draft) begins() bool {
	return d.revision != "" && d.deployment.Annotations[AnnotationRevision] != d.revision
}

// nextRevision is one more than the highest of all sets but the new one.
func (d *draft) nextRevision() int64 {
	var highest int64
	for _, s := range d.old() {
		highest = max(highest, revisionOf(s.rs))
	}
	return highest + 1
}

// appendHistory adds a revision to a list of them, and drops the oldest when the
// list becomes too long.
func appendHistory(history, revision string) string {
	if history == "" {
		return revision
	}
	history += "," + revision
	for len(history) > maxHistoryLength {
		_, history, _ = strings.Cut(history, ",")
	}
	return history
}

// trimHistory deletes the oldest sets beyond revisionHistoryLimit, once nothing
// is left of their pods. Until the new set is complete, as when it is paused, the
// one to go back to stays.
func (d *draft) trimHistory() {
	limit := d.deployment.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	kept := slices.DeleteFunc(d.old(), (*set).going)
	excess := len(kept) - int(*limit)
	if excess <= 0 {
		return
	}
	var needed *set
	if !d.complete() {
		needed = d.lastComplete()
	}
	slices.SortFunc(kept, byRevision)
	for _, s := range kept[:excess] {
		if s != needed && s.spec == 0 && s.pods.Active == 0 && s.pods.Terminating == 0 && s.rs.Generation <= s.rs.Status.ObservedGeneration {
			d.do(Delete{ReplicaSet: s.rs, Why: "only the last " + strconv.Itoa(int(*limit)) + " old sets are kept"})
		}
	}
}

// noteRevision adds the step that notes the new set's revision, and the cause
// that the Deployment has with it, unless that is done already. A failure of that
// revision, or of a later one, which is noted before it begins, is another's: of
// the Deployment that this one was copied from, or of sets that were deleted.
func (d *draft) noteRevision() {
	if d.revision == "" {
		return
	}
	step := SetRevision{Revision: d.revision, Why: "that of " + d.new.rs.Name}
	cause := d.deployment.Annotations[AnnotationChangeCause]
	if noted, known := d.deployment.Annotations[v1alpha1.AnnotationNotedCause]; noted != cause || !known && cause != "" {
		step.Cause = &cause
	}
	foreign := slices.Clone(ofSets)
	if d.begins() && d.failedRevision() >= parseRevision(d.revision) {
		foreign = append(foreign, ofFailure...)
	}
	for _, key := range foreign {
		if _, has := d.deployment.Annotations[key]; has {
			step.Drop = append(step.Drop, key)
		}
	}
	if d.begins() || step.Cause != nil || step.Drop != nil {
		d.do(step)
	}
}

// causeOfNew returns the annotations with the change-cause of the set that is,
// or becomes, the new one; s is nil when it is yet to be created. What the user
// says of this revision goes first. A set whose template comes back by an undo
// keeps what the user said of it then; else the way back is the cause.
func (d *draft) causeOfNew(s *set) map[string]string {
	if given := d.givenCause(); given != "" {
		return map[string]string{AnnotationChangeCause: given}
	}
	if s == nil {
		return computed(d.computedCause())
	}
	own := s.rs.Annotations[AnnotationChangeCause]
	stays := revisionOf(s.rs) >= d.nextRevision()
	switch {
	case own != "" && (stays || d.undone(own)):
		return map[string]string{AnnotationChangeCause: own}
	case !stays && d.failedRevision() != 0 && d.failedRevision() == d.latestRevision():
		because := d.deployment.Annotations[v1alpha1.AnnotationFailedBecause]
		return computed(clip(fmt.Sprintf("back to revision %d: %s", revisionOf(s.rs), because), maxBackLength))
	}
	return computed(d.computedCause())
}

// computed marks a cause as one that no user gave.
func computed(cause string) map[string]string {
	if cause == "" {
		return nil
	}
	return map[string]string{AnnotationChangeCause: cause, v1alpha1.AnnotationComputedCause: cause}
}

// givenCause returns the Deployment's change-cause unless it was given for an
// earlier revision: it is noted then, or, by a version that noted none, it is on
// the set of that revision. One that was computed for a set, and that an undo has
// brought here, nobody gave.
func (d *draft) givenCause() string {
	cause := d.deployment.Annotations[AnnotationChangeCause]
	if len(d.sets) == 0 {
		return cause // what is noted comes from the Deployment that this one was copied from
	}
	noted, known := d.deployment.Annotations[v1alpha1.AnnotationNotedCause]
	if revision := d.deployment.Annotations[AnnotationRevision]; !known && revision != "" {
		for _, s := range d.sets {
			if s.rs.Annotations[AnnotationRevision] == revision {
				noted = s.rs.Annotations[AnnotationChangeCause]
			}
		}
	}
	if cause == noted || cause == d.deployment.Annotations[v1alpha1.AnnotationComputedCause] {
		return ""
	}
	return cause
}

// undone says whether an undo by kubectl brought a cause that was given for a
// set back to the Deployment: with the set's annotations in place of all others.
func (d *draft) undone(own string) bool {
	_, noted := d.deployment.Annotations[v1alpha1.AnnotationNotedCause]
	return !noted && own != d.deployment.Annotations[v1alpha1.AnnotationComputedCause] && d.deployment.Annotations[AnnotationChangeCause] == own
}

// computedCause says how the wanted template differs from that of the latest
// revision.
func (d *draft) computedCause() string {
	var from *corev1.PodTemplateSpec
	if old := d.old(); len(old) > 0 {
		from = &slices.MaxFunc(old, byRevision).rs.Spec.Template
	}
	return CauseOf(Changes(from, &d.deployment.Spec.Template))
}
