package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/condition"
)

// failedPause is the least age at which a pod that has failed is replaced, so
// that one that its node refuses is not made again without pause.
const failedPause = 5 * time.Second

// slot is a place for a pod of a StatefulSet while a plan is being made.
type slot struct {
	ordinal   int32
	name      string
	wanted    *revision   // nil for a pod that is too many
	pod       *corev1.Pod // nil when there is none
	state     PodState
	available bool
	touched   bool // a step of this plan makes or deletes its pod
}

// finished says whether the pod has ended by itself.
func (s *slot) finished() bool {
	return s.pod != nil && condition.Ended(s.pod.Status.Phase)
}

// going says whether the pod is being deleted, or is about to be.
func (s *slot) going() bool { return s.pod != nil && (s.pod.DeletionTimestamp != nil || s.touched) }

// outdated says whether the pod is active and not of the wanted revision.
func (s *slot) outdated() bool {
	return s.pod != nil && !s.going() && s.state.Active && revisionOfPod(s.pod) != s.wanted.name()
}

func revisionOfPod(pod *corev1.Pod) string { return pod.Labels[appsv1.StatefulSetRevisionLabel] }

// fillSlots makes the pods that are missing, from the lowest ordinal up, and says
// whether all those that have to be there first are. In order, a pod is made once
// those before it are available.
func (d *statefulDraft) fillSlots() bool {
	d.replaceBroken()
	for _, s := range d.slots {
		switch {
		case s.going():
			d.wait("pod " + s.name + " to be gone, before its successor is made")
		case s.finished():
			d.replaceFinished(s)
		case s.pod == nil:
			d.make(s)
		default:
			d.repair(s)
			if s.available {
				continue
			}
			d.wait("pod " + s.name + " to become available")
		}
		if d.ordered() {
			d.stopped = true
			return false
		}
	}
	return true
}

// make adds the step that makes the pod of a slot, unless a pod that is not the
// set's has its name, or one of its claims is being deleted: the new pod shall not
// have what is about to vanish.
func (d *statefulDraft) make(s *slot) {
	if slices.ContainsFunc(d.Pods, func(pod *corev1.Pod) bool { return pod.Name == s.name }) {
		d.wait("pod " + s.name + ", which is not the set's, to be gone")
		return
	}
	for _, claim := range d.claimsOf(s.ordinal) {
		if there := d.claim(claim.Name); there != nil && d.stale(there, s) {
			d.wait("claim " + claim.Name + " of an earlier pod to be gone")
			return
		}
	}
	s.touched = true
	d.do(CreatePod{
		Pod:    newStatefulPod(d.Set, s.wanted, s.ordinal),
		Claims: d.missingClaims(s.ordinal),
		Set:    d.Set.Name,
		Why:    fmt.Sprintf("%s is missing, revision %d is wanted", s.name, s.wanted.number),
	})
}

func (d *statefulDraft) delete(s *slot, why string) {
	s.touched = true
	d.do(DeletePod{Pod: s.pod, Set: d.Set.Name, Why: why})
}

// replaceFinished deletes a pod that has ended by itself.
func (d *statefulDraft) replaceFinished(s *slot) {
	if at := s.pod.CreationTimestamp.Add(failedPause); s.pod.Status.Phase == corev1.PodFailed && at.After(d.Now) {
		d.wake.by(at)
		d.wait("a pause before pod " + s.name + ", which failed, is made again")
		return
	}
	d.delete(s, fmt.Sprintf("it has ended as %s and is made again", s.pod.Status.Phase))
}

// repair gives a pod the labels by which it is found, which one that was adopted
// may lack, and one that has yet to start the claims that were deleted meanwhile.
func (d *statefulDraft) repair(s *slot) {
	missing := map[string]string{}
	for key, value := range identityOf(s.name, s.ordinal) {
		if s.pod.Labels[key] != value {
			missing[key] = value
		}
	}
	if len(missing) > 0 {
		d.do(LabelPod{Pod: s.pod, Labels: missing, Why: "it lacks labels of its name and number"})
	}
	if claims := d.missingClaims(s.ordinal); len(claims) > 0 && s.pod.Status.Phase == corev1.PodPending {
		d.do(CreateClaims{Pod: s.pod, Claims: claims, Set: d.Set.Name, Why: "pod " + s.name + " waits for it"})
	}
}

// scaleDown deletes the pods that are too many, from the highest ordinal down. In
// order, one is deleted when those above it are gone.
func (d *statefulDraft) scaleDown() {
	for _, s := range d.condemned {
		if !s.going() {
			d.delete(s, fmt.Sprintf("%s wanted, from number %d", pods(int32(len(d.slots)), "pod"), startOf(d.Set)))
		}
		if d.ordered() {
			d.stopped = true
			d.wait("pod " + s.name + " to be gone")
			return
		}
	}
}

// update replaces outdated pods that are available, from the highest ordinal down,
// as many at a time as may be unavailable.
func (d *statefulDraft) update() {
	if !d.rolls() || d.halted() || d.stopped && d.inMotion() {
		return
	}
	budget := maxUnavailableOf(d.Set)
	for _, s := range d.slots {
		if !s.available || s.touched {
			budget--
		}
	}
	for i := len(d.slots) - 1; i >= 0; i-- {
		s := d.slots[i]
		if !s.outdated() || !s.available {
			continue
		}
		if budget <= 0 {
			d.wait("pods to become available, before the next is replaced")
			return
		}
		budget--
		d.delete(s, fmt.Sprintf("revision %d is wanted, and %s may be unavailable", s.wanted.number, pods(maxUnavailableOf(d.Set), "pod")))
	}
}

// inMotion says whether a pod is missing or going, so that in order none that
// serves is taken away.
func (d *statefulDraft) inMotion() bool {
	for _, s := range append(d.condemned, d.slots...) {
		if s.pod == nil || s.going() || s.finished() {
			return true
		}
	}
	return false
}

// replaceBroken replaces pods that are neither ready nor of the wanted revision,
// from the highest ordinal down: nothing is lost with them, and waiting for them
// would hold up what mends them. In order, it is one at a time.
//
// A pod of a revision that was complete once is left alone while the wanted one
// has yet to show that it is better, unless the pod fails for a reason that
// waiting will not mend.
func (d *statefulDraft) replaceBroken() {
	if !d.rolls() || d.halted() {
		return
	}
	doubtful := d.doubtful()
	for i := len(d.slots) - 1; i >= 0; i-- {
		s := d.slots[i]
		switch {
		case s.going() && d.ordered():
			return
		case !s.outdated() || s.state.Ready:
			continue
		case doubtful && s.state.Failing == "" && d.history.completed(revisionOfPod(s.pod)):
			continue
		}
		d.delete(s, fmt.Sprintf("it is not ready, and revision %d is wanted", s.wanted.number))
		if d.ordered() {
			return
		}
	}
}

// doubtful says whether a pod of the wanted revision is there that is not ready.
func (d *statefulDraft) doubtful() bool {
	for _, s := range d.slots {
		if s.pod != nil && !s.outdated() && !s.going() && !s.state.Ready {
			return true
		}
	}
	return false
}

// OrdinalOf returns the number at the end of the name of a StatefulSet's pod;
// false when a pod of the set cannot have that name.
func OrdinalOf(set, pod string) (int32, bool) {
	text, ok := strings.CutPrefix(pod, set+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, false
	}
	return int32(n), true
}

func podNameOf(set *appsv1.StatefulSet, ordinal int32) string {
	return fmt.Sprintf("%s-%d", set.Name, ordinal)
}

func startOf(set *appsv1.StatefulSet) int32 {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return set.Spec.Ordinals.Start
}

// ordinalsOf returns the lowest ordinal and how many there are.
func ordinalsOf(set *appsv1.StatefulSet) (start, replicas int32) {
	return startOf(set), max(ptr.Deref(set.Spec.Replicas, 1), 0)
}

// partitionOf returns below which place pods keep the current revision.
func partitionOf(set *appsv1.StatefulSet) int32 {
	strategy := &set.Spec.UpdateStrategy
	if strategy.Type == appsv1.OnDeleteStatefulSetStrategyType || strategy.RollingUpdate == nil {
		return 0
	}
	return ptr.Deref(strategy.RollingUpdate.Partition, 0)
}

// maxUnavailableOf returns how many pods may be unavailable while a set is
// rolled: one unless it says more, a percentage rounded up.
func maxUnavailableOf(set *appsv1.StatefulSet) int32 {
	_, replicas := ordinalsOf(set)
	value := ptr.To(intstr.FromInt32(1))
	if rolling := set.Spec.UpdateStrategy.RollingUpdate; rolling != nil && rolling.MaxUnavailable != nil {
		value = rolling.MaxUnavailable
	}
	return max(scaled(value, replicas, true), 1)
}
