package rolloutview

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// Back returns the revision that an undo goes back to when none is named: the
// latest before the current one whose rollout was complete, and notes for the
// user about those that it passes over. Where none is known to have been complete
// it is the one before; where there is none at all, 0. When the last revision
// failed and was rolled back already, there is nothing to undo that a user could
// have meant without naming it: that is an error, which says what there is.
func Back(d *appsv1.Deployment, sets []appsv1.ReplicaSet) (revision int64, notes []string, err error) {
	earlier := earlierThanNewest(d, sets)
	if len(earlier) == 0 {
		return 0, nil, nil
	}
	at := slices.IndexFunc(earlier, func(rs *appsv1.ReplicaSet) bool { return rs.Annotations[v1alpha1.AnnotationCompleted] != "" })
	last := earlier[0]
	if failed := last.Annotations[revisionAnnotation]; failed == d.Annotations[v1alpha1.AnnotationFailedRevision] &&
		d.Annotations[v1alpha1.AnnotationFailedAction] == string(v1alpha1.OnFailureRollback) {
		advice := "to try it again: --to-revision=" + failed
		if at > 0 {
			advice = fmt.Sprintf("to go further back: --to-revision=%d; %s", revisionOf(earlier[at]), advice)
		}
		return 0, nil, fmt.Errorf("revision %s has failed and was rolled back already (%s); %s",
			failed, clean(d.Annotations[v1alpha1.AnnotationFailedBecause]), advice)
	}
	if at < 0 {
		return revisionOf(last), []string{fmt.Sprintf("Warning: it is not known that revision %d was ever complete", revisionOf(last))}, nil
	}
	if at > 0 {
		var passed []string
		for _, rs := range earlier[:at] {
			passed = append(passed, rs.Annotations[revisionAnnotation])
		}
		notes = append(notes, fmt.Sprintf("Going back to revision %d: the rollout of %s was never complete", revisionOf(earlier[at]), strings.Join(passed, ", ")))
	}
	return revisionOf(earlier[at]), notes, nil
}

// earlierThanNewest returns the Deployment's sets but that of the highest
// revision, the latest first.
func earlierThanNewest(d *appsv1.Deployment, sets []appsv1.ReplicaSet) (earlier []*appsv1.ReplicaSet) {
	for i := range sets {
		if rs := &sets[i]; metav1.IsControlledBy(rs, d) && revisionOf(rs) > 0 {
			earlier = append(earlier, rs)
		}
	}
	slices.SortFunc(earlier, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revisionOf(b), revisionOf(a)) })
	return earlier[min(len(earlier), 1):]
}
