package rollout

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"windlass.dev/windlass/api/v1alpha1"
)

// StatefulSnapshot is all that a decision about a StatefulSet rests on.
// DecideStateful changes nothing in it.
type StatefulSnapshot struct {
	Set *appsv1.StatefulSet

	// Revisions are the ControllerRevisions in the set's namespace that it
	// controls, and those that nothing controls. Others may be left out.
	Revisions []*appsv1.ControllerRevision

	// Taken are revisions that hold names under which earlier plans wanted to
	// create one, as read from the API after it refused.
	Taken []*appsv1.ControllerRevision

	// Pods are the pods in the set's namespace that it controls, and those that
	// nothing controls.
	Pods []*corev1.Pod

	// Claims are the PersistentVolumeClaims in the set's namespace that have the
	// names of the set's. They may be left out when the set has no templates.
	Claims []*corev1.PersistentVolumeClaim

	// OnFailure is what the set's namespace says of rollouts that fail; empty
	// when it says nothing.
	OnFailure v1alpha1.FailurePolicy

	// Now is the time of the decision.
	Now time.Time
}

// DecideStateful returns what to do next for a StatefulSet.
//
// Its pods have names of their own, and no name is given twice: the successor of
// a pod is made when the pod's object is gone, and not before. Pods are made
// upwards and deleted downwards, one after the other where the set asks for that
// (https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/). A pod
// that is neither ready nor of the wanted revision is replaced, whatever the
// others do, so that no revision can hold up the next.
//
// A set that is being deleted only reports. A rollout that has failed is dealt
// with as the set, or its namespace, wants.
func DecideStateful(s StatefulSnapshot) Plan {
	d, err := newStatefulDraft(s)
	if err != nil {
		return Plan{Waiting: "a valid selector: " + err.Error()}
	}
	if d.StatefulSnapshot.Set.DeletionTimestamp == nil {
		d.claimPods()
		d.retainClaims()
		if d.fillSlots() {
			d.scaleDown()
		}
		d.update()
		d.trimRevisions()
	}
	d.report()
	return Plan{Steps: d.steps, WakeAt: d.wake.Time, Waiting: d.waiting}
}

// statefulDraft is a plan for a StatefulSet in the making.
type statefulDraft struct {
	StatefulSnapshot
	selector labels.Selector
	history  history

	slots     []*slot // the pods that should be, by ordinal, the lowest first
	condemned []*slot // pods beyond them, the highest ordinal first

	steps   []Step
	wake    wakeTime
	waiting string
	stopped bool // what comes later in the order has to wait
}

func newStatefulDraft(s StatefulSnapshot) (*statefulDraft, error) {
	selector, err := metav1.LabelSelectorAsSelector(s.Set.Spec.Selector)
	if err != nil {
		return nil, err
	}
	d := &statefulDraft{StatefulSnapshot: s, selector: selector}
	d.findRevisions()
	d.findSlots()
	return d, nil
}

func (d *statefulDraft) do(step Step) { d.steps = append(d.steps, step) }

// wait notes what the plan waits for, the first thing only.
func (d *statefulDraft) wait(what string) {
	if d.waiting == "" {
		d.waiting = what
	}
}

// ordered says whether pods are made and deleted one after the other.
func (d *statefulDraft) ordered() bool {
	return d.Set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// rolls says whether the controller replaces outdated pods by itself.
func (d *statefulDraft) rolls() bool {
	return d.Set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType
}

// mine says whether the set controls an object.
func (d *statefulDraft) mine(object metav1.Object) bool { return metav1.IsControlledBy(object, d.Set) }

// claimPods adopts pods that have a name of the set's and match its selector, and
// releases those that match no more.
func (d *statefulDraft) claimPods() {
	for _, pod := range d.Pods {
		_, named := OrdinalOf(d.Set.Name, pod.Name)
		matches := named && d.selector.Matches(labels.Set(pod.Labels))
		switch mine := d.mine(pod); {
		case mine && !matches && pod.DeletionTimestamp == nil:
			d.do(ReleasePod{Pod: pod, Why: "the selector does not match its labels any more"})
		case !mine && matches && metav1.GetControllerOfNoCopy(pod) == nil && pod.DeletionTimestamp == nil:
			d.do(AdoptPod{Pod: pod, Why: "it has a name of the set's, the selector matches its labels, and nothing controls it"})
		}
	}
}

// member says whether a pod is, or is about to be, the set's.
func (d *statefulDraft) member(pod *corev1.Pod) bool {
	if d.mine(pod) {
		return d.selector.Matches(labels.Set(pod.Labels)) || pod.DeletionTimestamp != nil
	}
	return metav1.GetControllerOfNoCopy(pod) == nil && d.Set.DeletionTimestamp == nil &&
		d.selector.Matches(labels.Set(pod.Labels)) && pod.DeletionTimestamp == nil
}

// findSlots sorts the set's pods by the places that they fill.
func (d *statefulDraft) findSlots() {
	start, replicas := ordinalsOf(d.Set)
	d.slots = make([]*slot, replicas)
	for i := range d.slots {
		ordinal := start + int32(i)
		d.slots[i] = &slot{ordinal: ordinal, name: podNameOf(d.Set, ordinal), wanted: d.wantedAt(int32(i))}
	}
	for _, pod := range d.Pods {
		ordinal, named := OrdinalOf(d.Set.Name, pod.Name)
		if !named || !d.member(pod) {
			continue
		}
		s := &slot{ordinal: ordinal, name: pod.Name}
		if at := ordinal - start; at >= 0 && at < replicas {
			s = d.slots[at]
		} else {
			d.condemned = append(d.condemned, s)
		}
		s.pod, s.state = pod, StateOf(pod)
		at, ready := s.state.AvailableAt(d.Set.Spec.MinReadySeconds)
		s.available = ready && !at.After(d.Now)
		if ready && !s.available {
			d.wake.by(at)
		}
	}
	slices.SortFunc(d.condemned, func(a, b *slot) int { return int(b.ordinal - a.ordinal) })
}

// wantedAt returns the revision that the pod at a place, counted from 0, is to
// have: below the partition of a rolling update it is the current one.
func (d *statefulDraft) wantedAt(place int32) *revision {
	if place < partitionOf(d.Set) {
		return d.history.current
	}
	return d.history.update
}
