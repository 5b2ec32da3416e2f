package rollout

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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

// notCopied are the Deployment's annotations that say nothing of a revision.
var notCopied = []string{
	corev1.LastAppliedConfigAnnotation,
	AnnotationRevision,
	AnnotationRevisionHistory,
	AnnotationDesiredReplicas,
	AnnotationMaxReplicas,
	appsv1.DeprecatedRollbackTo,
}

// revisionOf returns the revision of a set, 0 when it has none.
func revisionOf(rs *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[AnnotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// describeNew gives the new set its revision, one above all others, and the
// Deployment's annotations (its change-cause among them).
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
	current := s.rs.Spec.MinReadySeconds == d.deployment.Spec.MinReadySeconds
	for k, v := range annotations {
		have, has := s.rs.Annotations[k]
		current = current && has && have == v
	}
	if !current {
		d.do(Describe{ReplicaSet: s.rs, Annotations: annotations, MinReadySeconds: d.deployment.Spec.MinReadySeconds, Why: why})
	}
	d.revision = strconv.FormatInt(max(revisionOf(s.rs), d.nextRevision()), 10)
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
// is left of their pods.
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
	slices.SortFunc(kept, byRevision)
	for _, s := range kept[:excess] {
		if s.spec == 0 && s.pods.Active == 0 && s.pods.Terminating == 0 && s.rs.Generation <= s.rs.Status.ObservedGeneration {
			d.do(Delete{ReplicaSet: s.rs, Why: "only the last " + strconv.Itoa(int(*limit)) + " old sets are kept"})
		}
	}
}
