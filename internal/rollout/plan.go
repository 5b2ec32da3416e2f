package rollout

import (
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
)

// Decide returns what to do next for a Deployment.
//
// Sets are adopted and released by the selector. A Deployment that is being
// deleted only reports. One that was resized has its sets resized in proportion.
// A paused one does no more than that; any other is rolled, by its strategy, and
// once it is complete its history is trimmed. A rollout that has failed is dealt
// with as the Deployment, or its namespace, wants.
func Decide(s Snapshot) Plan {
	d, err := newDraft(s)
	if err != nil {
		return Plan{Waiting: "a valid selector: " + err.Error()}
	}
	switch {
	case d.deployment.DeletionTimestamp != nil:
	case d.deployment.Spec.Paused:
		d.describeNew()
		d.describeOld()
		d.resize()
		d.trimHistory()
	default:
		d.describeNew()
		d.describeOld()
		d.resize()
		d.roll()
		if d.complete() {
			d.markCompleted()
			d.trimHistory()
		}
	}
	d.report()
	return Plan{Steps: d.steps, WakeAt: d.wake.Time, Waiting: d.waiting}
}

// draft is a plan in the making: the fleet as it will be after the steps so far.
type draft struct {
	Snapshot
	fleet

	deployment *appsv1.Deployment
	budget     Budget
	status     appsv1.DeploymentStatus // as it will be reported
	collisions *int32

	steps []Step
	wake  wakeTime

	revision string // of the new set, to be noted on the Deployment
	waiting  string
}

func newDraft(s Snapshot) (*draft, error) {
	d := &draft{
		Snapshot:   s,
		deployment: s.Deployment,
		budget:     BudgetOf(s.Deployment),
		collisions: s.Deployment.Status.CollisionCount,
	}
	selector, err := metav1.LabelSelectorAsSelector(s.Deployment.Spec.Selector)
	if err != nil {
		return nil, err
	}
	sets := slices.Clone(s.ReplicaSets)
	for _, taken := range s.Taken {
		known := slices.ContainsFunc(sets, func(rs *appsv1.ReplicaSet) bool { return rs.UID == taken.UID })
		if !known && metav1.IsControlledBy(taken, d.deployment) {
			sets = append(sets, taken)
		}
	}
	d.claim(sets, selector)
	d.find(d.deployment)
	d.status = d.counts()
	return d, nil
}

// do adds a step to the plan.
func (d *draft) do(step Step) { d.steps = append(d.steps, step) }

// scale adds a step that makes a set have some number of pods, and notes the
// size of the Deployment on it. Nothing is done when both are so already.
func (d *draft) scale(s *set, to int32, why string) {
	desired, most := d.budget.Replicas, d.budget.MaxTotal()
	noted := s.marked ||
		s.rs.Annotations[AnnotationDesiredReplicas] == strconv.Itoa(int(desired)) &&
			s.rs.Annotations[AnnotationMaxReplicas] == strconv.Itoa(int(most))
	if to == s.spec && noted {
		return
	}
	d.do(Scale{Name: s.rs.Name, UID: s.rs.UID, From: s.spec, To: to, Desired: desired, Max: most, Why: why})
	s.spec, s.marked = to, true
}

// create adds a step that makes the new set with as many pods as there is room
// for. A hash that is taken by a set with another template is changed.
func (d *draft) create() {
	hash := templateHash(&d.deployment.Spec.Template, d.collisions)
	for d.taken(replicaSetName(d.deployment, hash)) {
		d.collisions = ptr.To(ptr.Deref(d.collisions, 0) + 1)
		hash = templateHash(&d.deployment.Spec.Template, d.collisions)
	}
	n := max(min(d.budget.Replicas, d.budget.MaxTotal()-d.total()), 0)
	why := "no set has this template; " + d.room()
	d.revision = strconv.FormatInt(d.nextRevision(), 10)
	annotations := with(without(d.deployment.Annotations, notCopied...), AnnotationRevision, d.revision)
	annotations = with(annotations, v1alpha1.AnnotationScaledBecause, why)
	for key, value := range d.causeOfNew(nil) {
		annotations = with(annotations, key, value)
	}
	annotations = with(annotations, AnnotationDesiredReplicas, strconv.Itoa(int(d.budget.Replicas)))
	annotations = with(annotations, AnnotationMaxReplicas, strconv.Itoa(int(d.budget.MaxTotal())))
	rs := newReplicaSet(d.deployment, hash, n, annotations)
	d.do(Create{ReplicaSet: rs, Why: why})
	d.new = &set{rs: rs, spec: n, marked: true, fresh: true}
	d.sets = append(d.sets, d.new)
}

// taken says whether a name cannot be given to a new set.
func (d *draft) taken(name string) bool {
	return slices.ContainsFunc(d.ReplicaSets, func(rs *appsv1.ReplicaSet) bool { return rs.Name == name }) ||
		slices.ContainsFunc(d.Taken, func(rs *appsv1.ReplicaSet) bool { return rs.Name == name })
}

// room puts into words how many pods there are and may be.
func (d *draft) room() string {
	return fmt.Sprintf("%d of at most %d pods are asked for", d.total(), d.budget.MaxTotal())
}
