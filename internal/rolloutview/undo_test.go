package rolloutview

import (
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// An undo goes back to what has served, and does not undo a rollback.
func TestBack(t *testing.T) {
	for name, of := range map[string]struct {
		revisions string // of the sets, with + where they were complete
		failed    string // the revision that was answered, and how
		want      int64
		says      string
	}{
		"the one before":                 {"1+ 2+ 3+", "", 2, ""},
		"past what never served":         {"1+ 2 3 4", "", 1, "Going back to revision 1: the rollout of 3, 2 was never complete"},
		"past what was paused":           {"1+ 2 3", "2 pause", 1, "rollout of 2 was"},
		"of one that is rolled back":     {"1+ 3 4+", "3 rollback", 0, "rolled back already (Late: it was); to go further back: --to-revision=1; to try it again: --to-revision=3"},
		"of one, with nothing before":    {"3 4+", "3 rollback", 0, "already (Late: it was); to try it again: --to-revision=3"},
		"later than a rollback":          {"1+ 3 4+ 5", "3 rollback", 4, ""},
		"where nobody knows":             {"1 2 3", "", 2, "Warning: it is not known that revision 2"},
		"with nothing before":            {"1+", "", 0, ""},
		"with no sets":                   {"", "", 0, ""},
		"ten is more than nine":          {"9 10+ 11+", "", 10, ""},
		"not to those of somebody else":  {"1+ 2+ 7+other", "", 1, ""},
		"not to those without a number":  {"1+ 2+ x+", "", 1, ""},
		"of a rollback, kept by no room": {"1 2 3", "2 keep", 2, "Warning"},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "web", Annotations: map[string]string{}}}
		if revision, action, ok := strings.Cut(of.failed, " "); ok {
			d.Annotations[v1alpha1.AnnotationFailedRevision] = revision
			d.Annotations[v1alpha1.AnnotationFailedAction] = action
			d.Annotations[v1alpha1.AnnotationFailedBecause] = "Late: it was"
		}
		var sets []appsv1.ReplicaSet
		for i, word := range strings.Fields(of.revisions) {
			revision, rest, complete := strings.Cut(word, "+")
			owner := d.DeepCopy()
			if rest != "" {
				owner.UID = "other"
			}
			rs := appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
				Name: "web-" + strconv.Itoa(i), Annotations: map[string]string{revisionAnnotation: revision},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
			}}
			if complete {
				rs.Annotations[v1alpha1.AnnotationCompleted] = revision
			}
			sets = append(sets, rs)
		}
		revision, notes, err := Back(d, sets)
		said := strings.Join(notes, "\n")
		if err != nil {
			said = err.Error()
		}
		if revision != of.want || !strings.Contains(said, of.says) || of.says == "" && said != "" {
			t.Errorf("%s: %d, %q; want %d, %q", name, revision, said, of.want, of.says)
		}
		if (err != nil) != strings.Contains(of.says, "already") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
