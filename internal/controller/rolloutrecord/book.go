package rolloutrecord

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

const (
	// maxSteps and maxPods bound a record's size.
	maxSteps = 200
	maxPods  = 300
)

// Book is all that this process knows of a rollout that goes on, or whose last
// pods are still to stop. The record's status is a summary of it.
type Book struct {
	// outcome is the part of the status that says how the rollout stands.
	outcome

	// since is when a revision that had no set yet was first wanted.
	since time.Time

	steps        []v1alpha1.RolloutStep
	stepsOmitted int32
	sizes        map[string]int32 // of the sets, as far as known

	pods map[string]entry // by keyOf, or storedKey

	// lost is how many pods an earlier process omitted that have not been found
	// again, and lostTimings what it stored of them.
	lost        int32
	lostTimings []v1alpha1.StageTiming

	// Written is the status as last written; nil when it was not.
	Written *v1alpha1.RolloutRecordStatus
}

// outcome says how a rollout stands and what its pods are.
type outcome struct {
	phase                        v1alpha1.RolloutPhase
	reason, message              string
	endedAt                      *metav1.MicroTime
	replicas, updated, available int32
}

// entry is the timeline of a pod of a rollout.
type entry struct {
	v1alpha1.PodTimeline
	version string    // of the pod that it was last made from
	wake    time.Time // when the pod becomes available by the mere passing of time
	gone    bool      // no more will be known
}

// closed says whether the rollout has an outcome that is the last one.
func (o outcome) closed() bool { return o.phase.Over() && o.phase != v1alpha1.RolloutFailed }

// open returns the book of a record: as it was stored, or a new one.
func open(record *v1alpha1.RolloutRecord, newSet *appsv1.ReplicaSet, there map[string]bool) Book {
	st := &record.Status
	b := Book{
		outcome: outcome{
			phase: st.Phase, reason: st.Reason, message: st.Message, endedAt: st.EndedAt,
			replicas: st.Replicas, updated: st.UpdatedReplicas, available: st.AvailableReplicas,
		},
		steps:        slices.Clone(st.Steps),
		stepsOmitted: st.StepsOmitted,
		sizes:        map[string]int32{},
		pods:         map[string]entry{},
		lost:         st.PodsOmitted,
	}
	for _, step := range st.Steps {
		b.sizes[step.Set] = step.To
	}
	if st.Phase == "" {
		if newSet != nil && isFirstOf(newSet) {
			b.sizes[newSet.Name] = 0
		}
		return b
	}
	written := *st
	written.Traffic = nil
	b.Written = &written
	b.guessOldSize(record.Spec.From, record.Spec.To.Name)
	for i, t := range st.Pods {
		key := storedKey(t.Name, t.Set)
		if earlier, has := b.pods[key]; has { // a pod of a StatefulSet has a successor of its name
			earlier.gone = true
			b.pods[fmt.Sprint(key, "#", i)] = earlier
		}
		b.pods[key] = entry{PodTimeline: t, gone: !there[key]}
	}
	for _, timing := range st.Timings {
		timing.Pods -= int32(len(samples(timing.Stage, b.pods, record)))
		if timing.Pods > 0 {
			b.lostTimings = append(b.lostTimings, timing)
		}
	}
	return b
}

// keyOf is the key of a pod in a book. A name alone is not enough: pods of a
// StatefulSet hand theirs on.
func keyOf(pod Pod) string { return pod.Name + "/" + string(pod.UID) }

// storedKey is the key of a pod of which only what a record stores is known.
func storedKey(name, set string) string { return name + "@" + set }

// entryOf returns what is known of a pod of a set, by the key of the pod.
func (b *Book) entryOf(pod Pod, set string) (e entry, known bool) {
	if e, known = b.pods[keyOf(pod)]; known {
		return e, true
	}
	stored := storedKey(pod.Name, set)
	if e, known = b.pods[stored]; known && !e.gone {
		delete(b.pods, stored)
		b.pods[keyOf(pod)] = e
		return e, true
	}
	return entry{}, false
}

// guessOldSize takes the old pods that were counted last for the size of the old
// set, when no step tells it.
func (b *Book) guessOldSize(from *v1alpha1.RolloutSide, to string) {
	if from == nil {
		return
	}
	if _, known := b.sizes[from.Name]; known {
		return
	}
	old := b.replicas - b.updated
	for set, size := range b.sizes {
		if set != to {
			old -= size
		}
	}
	b.sizes[from.Name] = max(old, 0)
}

// clone returns a copy that can be changed.
func (b Book) clone() Book {
	b.steps = slices.Clone(b.steps)
	b.sizes = maps.Clone(b.sizes)
	b.pods = maps.Clone(b.pods)
	b.lostTimings = slices.Clone(b.lostTimings)
	return b
}

// resize notes the size of a set as it was seen.
func (b *Book) resize(size Size) {
	from, known := b.sizes[size.Set]
	if size.From != nil {
		from, known = *size.From, true
	}
	b.sizes[size.Set] = size.To
	if !known || from == size.To {
		return
	}
	b.steps = append(b.steps, v1alpha1.RolloutStep{Time: *moment(size.Time), Set: size.Set, From: from, To: size.To, Why: bounded(size.Why, maxNote)})
	if extra := len(b.steps) - maxSteps; extra > 0 {
		b.steps = slices.Clone(b.steps[extra:])
		b.stepsOmitted += int32(extra)
	}
}

// endNotBeforeLastStep moves an end that is known to the second only behind the
// last step.
func (b *Book) endNotBeforeLastStep() {
	if n := len(b.steps); b.endedAt != nil && n > 0 && b.endedAt.Time.Before(b.steps[n-1].Time.Time) {
		b.endedAt = b.steps[n-1].Time.DeepCopy()
	}
}

// find takes a pod that was not known for one of those that an earlier process
// had omitted, if it looks like one: nothing happens to it any more.
func (b *Book) find(e entry, record *v1alpha1.RolloutRecord) {
	if b.lost == 0 || !uneventful(e) {
		return
	}
	b.lost--
	for i := range b.lostTimings {
		timing := &b.lostTimings[i]
		if _, ok := sample(timing.Stage, e, record); ok {
			timing.Pods = max(timing.Pods-1, 0)
		}
	}
}

// unfinished returns how many pods were asked to stop and may still tell more.
func (b *Book) unfinished() (n int) {
	for _, e := range b.pods {
		if e.StopRequested != nil && !e.gone {
			n++
		}
	}
	return n
}

// status is the book in a bounded size.
func (b *Book) status(record *v1alpha1.RolloutRecord) v1alpha1.RolloutRecordStatus {
	st := v1alpha1.RolloutRecordStatus{
		Phase: b.phase, Reason: b.reason, Message: b.message, EndedAt: b.endedAt,
		Replicas: b.replicas, UpdatedReplicas: b.updated, AvailableReplicas: b.available,
		Steps: b.steps, StepsOmitted: b.stepsOmitted,
		Timings: b.timings(record),
	}
	if b.endedAt != nil {
		st.Duration = &metav1.Duration{Duration: max(b.endedAt.Sub(record.Spec.StartedAt.Time), 0)}
	}
	kept := slices.SortedFunc(maps.Values(b.pods), byCreation)
	if extra := len(kept) - maxPods; extra > 0 {
		st.PodsOmitted = int32(extra)
		slices.SortStableFunc(kept, func(a, b entry) int { return cmp.Compare(interest(a), interest(b)) })
		kept = kept[extra:]
		slices.SortFunc(kept, byCreation)
	}
	st.PodsOmitted += b.lost
	for _, e := range kept {
		st.Pods = append(st.Pods, e.PodTimeline)
	}
	return st
}

// interest ranks pods by how much of their timelines matters to a reader.
func interest(e entry) int {
	switch {
	case e.Note != "":
		return 3
	case !uneventful(e):
		return 2
	case e.Stopped == nil:
		return 1
	}
	return 0
}

// uneventful says whether a pod has come, or gone, as it should.
func uneventful(e entry) bool {
	if e.StopRequested != nil {
		return e.Note == "" && e.Stopped != nil
	}
	return e.Note == "" && e.Available != nil
}

func byCreation(a, b entry) int {
	if a.Created != nil && b.Created != nil {
		if c := a.Created.Compare(b.Created.Time); c != 0 {
			return c
		}
	}
	return cmp.Compare(a.Name, b.Name)
}
