package rollout

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// wakeTime is when to look again; zero for never.
type wakeTime struct{ time.Time }

// by makes it no later than t, unless t is zero.
func (w *wakeTime) by(t time.Time) { w.Time = earlier(w.Time, t) }

// claim builds the fleet: the sets that the Deployment controls and that its
// selector matches. Sets without a controller that match are adopted, sets that
// match no more are released.
func (d *draft) claim(sets []*appsv1.ReplicaSet, selector labels.Selector) {
	for _, rs := range sets {
		matches := selector.Matches(labels.Set(rs.Labels))
		owner := metav1.GetControllerOfNoCopy(rs)
		mine := owner != nil && owner.UID == d.deployment.UID
		free := owner == nil && rs.DeletionTimestamp == nil && d.deployment.DeletionTimestamp == nil
		switch {
		case mine && matches:
		case mine && rs.DeletionTimestamp == nil && d.deployment.DeletionTimestamp == nil:
			d.do(Release{ReplicaSet: rs, Why: "the selector does not match its labels any more"})
			continue
		case free && matches:
			d.do(Adopt{ReplicaSet: rs, Why: "the selector matches its labels and nothing controls it"})
		default:
			continue
		}
		counts, next := Count(d.Pods[rs.UID], d.deployment.Spec.MinReadySeconds, d.Now)
		d.wake.by(next)
		d.sets = append(d.sets, &set{rs: rs, pods: counts, spec: replicasOf(rs)})
	}
	slices.SortFunc(d.sets, byAge)
}
