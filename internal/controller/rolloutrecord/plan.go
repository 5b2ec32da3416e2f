package rolloutrecord

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// beat is the least time between two looks at a rollout at which nothing but its
// pods changes.
const beat = time.Second

// The kinds of workload whose rollouts have records.
const (
	deployment  = "Deployment"
	statefulSet = "StatefulSet"
)

// Facts are all that a decision about the records of a Deployment rests on, or of
// a StatefulSet in the form of one (rollout.View). They are not changed.
type Facts struct {
	Deployment *appsv1.Deployment

	// OnFailure is the default of the namespace, as its annotation says.
	OnFailure v1alpha1.FailurePolicy

	// ReplicaSets are those that the Deployment controls.
	ReplicaSets []*appsv1.ReplicaSet

	// Pods are the pods of those sets by the set's UID, with those that were seen
	// to go since the last decision.
	Pods map[types.UID][]Pod

	// Began says when a set was first seen with its revision, by the set's UID.
	Began map[types.UID]Beginning

	// Sizes are the sizes of the sets that were seen since the last decision.
	Sizes []Size

	// Services are those of the namespace.
	Services []*corev1.Service

	// Records are those of the Deployment, and Books those that the last decision
	// left open, by revision.
	Records []*v1alpha1.RolloutRecord
	Books   map[int64]Book

	Now time.Time
}

// Beginning is when a set was first seen with a revision.
type Beginning struct {
	Revision int64
	At       time.Time
}

// Size is the number of replicas that a set was seen to want.
type Size struct {
	Time time.Time
	Set  string
	From *int32 // nil when the set was seen for the first time, and is not new
	To   int32
	Why  string
}

// Plan is what to do about the records of a Deployment.
type Plan struct {
	// Create is a record to make, nil for none. It has no status.
	Create *v1alpha1.RolloutRecord

	// Causes are new causes of records, and Statuses the statuses to write.
	Causes   []CauseChange
	Statuses []StatusChange

	// Books are the open books, by revision, for the next decision. It is not
	// needed before an event when there are none.
	Books map[int64]Book

	// Stopping is how many pods are awaited to be gone by rollouts that are over;
	// 0 too while one goes on.
	Stopping int

	// WakeAt is when the passing of time alone changes a status; zero when it
	// never does.
	WakeAt time.Time
}

// CauseChange is a new cause of a record.
type CauseChange struct {
	Record   string
	Cause    string
	Computed bool
}

// StatusChange is a status to write, but for the traffic, which is not ours.
type StatusChange struct {
	Record   string
	Revision int64
	Status   v1alpha1.RolloutRecordStatus
}

// Decide returns what to do about the records of a Deployment: a revision that
// is new and has none gets one; the one of the highest revision follows the
// Deployment; earlier ones are closed; and each tells what happened to its pods
// until the last one that it stopped is gone.
func Decide(f Facts) Plan {
	d := &decision{Facts: f, plan: Plan{Books: map[int64]Book{}}}
	d.records = slices.SortedFunc(slices.Values(f.Records), func(a, b *v1alpha1.RolloutRecord) int {
		return int(a.Spec.Revision - b.Spec.Revision)
	})
	d.begin()
	for i, record := range d.records {
		d.follow(record, i+1)
	}
	d.noteCause()
	return d.plan
}

// stateful says whether the Deployment stands for a StatefulSet.
func (f *Facts) stateful() bool { return f.Deployment.Kind == statefulSet }

// decision is a plan in the making.
type decision struct {
	Facts
	records []*v1alpha1.RolloutRecord // the one to be created included
	there   map[string]bool           // the pods' storedKeys, once they are needed
	plan    Plan
}

// begin makes the record of a revision that has none. A revision that is wanted
// but has no set yet, because the old pods must be gone first, gets a book, and
// its record later.
func (d *decision) begin() {
	if d.Deployment.DeletionTimestamp != nil {
		return
	}
	set, highest := rollout.NewSet(d.Deployment, d.ReplicaSets), int64(0)
	for _, other := range d.ReplicaSets {
		if other != set {
			highest = max(highest, rollout.RevisionOf(other))
		}
	}
	switch {
	case set == nil && highest > 0 && !d.Deployment.Spec.Paused && !d.stateful():
		d.records = append(d.records, d.unnamedRecord(highest+1))
		return
	case set == nil || rollout.RevisionOf(set) <= highest:
		return // an old set that is wanted again will get a revision of its own
	}
	revision := rollout.RevisionOf(set)
	if n := len(d.records); n > 0 && d.records[n-1].Spec.Revision >= revision {
		return
	}
	d.plan.Create = d.newRecord(set, revision)
	d.records = append(d.records, d.plan.Create)
}

// unnamedRecord stands for the record of a revision that has no set yet.
func (d *decision) unnamedRecord(revision int64) *v1alpha1.RolloutRecord {
	return &v1alpha1.RolloutRecord{Spec: v1alpha1.RolloutRecordSpec{Revision: revision, StartedAt: *moment(d.since(revision))}}
}

// since returns when a book was opened for a revision without a set, else now.
func (d *decision) since(revision int64) time.Time {
	if book, ok := d.Books[revision]; ok && !book.since.IsZero() {
		return book.since
	}
	return d.Now
}

// follow brings the book of a record up to date and has its status written when
// that has changed. The record after it is the one at index next.
func (d *decision) follow(record *v1alpha1.RolloutRecord, next int) {
	book, ok := d.book(record, next)
	if !ok {
		return
	}
	current := next == len(d.records)
	wasOver := book.closed() || !current && book.phase.Over()
	switch {
	case book.closed():
	case record.Name == "":
		book.since = record.Spec.StartedAt.Time
	case current:
		d.judge(&book, record)
	case d.records[next].Name == "": // who knows whether it stays wanted
	default:
		d.close(&book, record, d.records[next])
	}
	end := d.end(&book, next)
	if current && !wasOver && !end.IsZero() && end.Nanosecond() == 0 {
		end = end.Add(time.Second + grain) // it is known to the second, and steps and stops may be seen late
	}
	d.resize(&book, record, next, end)
	d.tellPods(&book, record, end, wasOver)
	if current && !wasOver {
		book.endNotBeforeLastStep()
	}
	if current && !book.phase.Over() && record.Name != "" {
		d.explain(&book, record)
	}

	if record == d.plan.Create {
		book.Written = nil // what was written, if anything, was deleted with the record
	}
	status, written := book.status(record), book.Written
	changed := written == nil || !equality.Semantic.DeepEqual(*written, status)
	if changed && record != d.plan.Create && record.Name != "" {
		d.plan.Statuses = append(d.plan.Statuses, StatusChange{Record: record.Name, Revision: record.Spec.Revision, Status: status})
	}
	stopping := book.unfinished()
	if book.closed() {
		d.plan.Stopping += stopping
	}
	if changed || stopping > 0 || current && !book.closed() {
		d.plan.Books[record.Spec.Revision] = book
	}
}

// book returns the book of a record, false when there is nothing to add to it.
func (d *decision) book(record *v1alpha1.RolloutRecord, next int) (Book, bool) {
	if book, ok := d.Books[record.Spec.Revision]; ok {
		return book.clone(), true
	}
	stopping := slices.ContainsFunc(record.Status.Pods, func(t v1alpha1.PodTimeline) bool {
		return t.StopRequested != nil && t.Stopped == nil
	})
	phase := record.Status.Phase
	goesOn := !phase.Over() || phase == v1alpha1.RolloutFailed && (next == len(d.records) || d.failed(record.Spec.Revision))
	if !goesOn && !stopping {
		return Book{}, false
	}
	if d.there == nil {
		d.there = map[string]bool{}
		for _, rs := range d.ReplicaSets {
			for _, pod := range d.Pods[rs.UID] {
				d.there[storedKey(pod.Name, rs.Name)] = true
			}
		}
	}
	book := open(record, d.setNamed(record.Spec.To.Name), d.there)
	return book, goesOn || book.unfinished() > 0
}

func (d *decision) setNamed(name string) *appsv1.ReplicaSet {
	for _, rs := range d.ReplicaSets {
		if rs.Name == name {
			return rs
		}
	}
	return nil
}

// end returns until when a record takes what happens for its own: until it was
// over, or the next began. It is zero while the rollout goes on.
func (d *decision) end(book *Book, next int) time.Time {
	var end time.Time
	if book.closed() && book.endedAt != nil {
		end = book.endedAt.Time
	}
	if next < len(d.records) {
		if begins := d.records[next].Spec.StartedAt.Time; end.IsZero() || begins.Before(end) {
			end = begins
		}
	}
	return end
}

// resize notes the sizes that were seen while the rollout ran.
func (d *decision) resize(book *Book, record *v1alpha1.RolloutRecord, next int, end time.Time) {
	for _, size := range d.Sizes {
		at := moment(size.Time).Time
		if !at.Before(record.Spec.StartedAt.Time) && (end.IsZero() || at.Before(end) || next == len(d.records) && at.Equal(end)) {
			book.resize(size)
		}
	}
}

// tellPods brings the timelines up to date. Once a rollout was over, it is only
// those of the pods that it stopped.
func (d *decision) tellPods(book *Book, record *v1alpha1.RolloutRecord, end time.Time, wasOver bool) {
	for _, rs := range d.ReplicaSets {
		mine := rs.Name == record.Spec.To.Name
		for _, pod := range d.Pods[rs.UID] {
			e, known := book.entryOf(pod, rs.Name)
			stops := pod.DeletionTimestamp != nil || !pod.Gone.IsZero()
			if e.gone || !mine && !stops || wasOver && e.StopRequested == nil {
				continue
			}
			told := wasOver && e.StopRequested != nil
			e = d.tell(e, pod, rs)
			if !known && !belongs(e, record, mine, end) {
				continue
			}
			if !known && book.Written != nil {
				book.find(e, record)
			}
			if !told && !end.IsZero() && e.StopRequested != nil && !e.StopRequested.Time.Before(end) {
				e.StopRequested, e.EndpointRemoved, e.Drained, e.Stopped = nil, nil, nil, nil
			}
			book.pods[keyOf(pod)] = e
			d.wakeBy(e.wake)
		}
	}
}

// tell returns the entry of a pod as it is now. One that was made from the same
// version of the pod stays, unless its time has come.
func (d *decision) tell(was entry, pod Pod, rs *appsv1.ReplicaSet) entry {
	due := !was.wake.IsZero() && !was.wake.After(d.Now)
	if was.version == pod.ResourceVersion && was.version != "" && pod.Gone.IsZero() && !due {
		return was
	}
	e := entry{version: pod.ResourceVersion, gone: !pod.Gone.IsZero()}
	e.PodTimeline, e.wake = timelineOf(pod, rs.Name, rs.Spec.MinReadySeconds, was.PodTimeline, d.Now)
	return e
}

// belongs says whether a rollout, which took until end what happened for its own,
// changed the life of a pod: the pod was made for it or was there for it, or was
// stopped in it.
func belongs(e entry, record *v1alpha1.RolloutRecord, mine bool, end time.Time) bool {
	if stop := e.StopRequested; stop != nil {
		if beforeStart(stop, record) {
			return false
		}
		if end.IsZero() || stop.Time.Before(end) {
			return true
		}
	}
	return mine && (end.IsZero() || e.Created != nil && e.Created.Time.Before(end))
}

// beforeStart says whether a moment was before a rollout began. One in whole
// seconds may be up to a second later than it says.
func beforeStart(t *metav1.MicroTime, record *v1alpha1.RolloutRecord) bool {
	start := record.Spec.StartedAt.Time
	if t.Nanosecond() == 0 {
		start = start.Truncate(time.Second)
	}
	return t.Time.Before(start)
}

// wakeBy makes the next look no later than t, and not before a beat is over.
func (d *decision) wakeBy(t time.Time) {
	if t.IsZero() {
		return
	}
	if least := d.Now.Add(beat); t.Before(least) {
		t = least
	}
	if d.plan.WakeAt.IsZero() || t.Before(d.plan.WakeAt) {
		d.plan.WakeAt = t
	}
}

// noteCause has the cause of the last record follow the one that its set has.
func (d *decision) noteCause() {
	if len(d.records) == 0 || d.plan.Create != nil {
		return
	}
	record := d.records[len(d.records)-1]
	set := d.setNamed(record.Spec.To.Name)
	if set == nil {
		return
	}
	cause, computed := causeOf(d.Deployment, set, record.Spec.Changes)
	if cause != record.Spec.Cause || !computed && record.Spec.CauseComputed {
		d.plan.Causes = append(d.plan.Causes, CauseChange{Record: record.Name, Cause: cause, Computed: computed})
	}
}

// String is the plan as a script shows it.
func (p Plan) String() string {
	var b strings.Builder
	if p.Create != nil {
		fmt.Fprintf(&b, "create %s\n", describe(p.Create))
	}
	for _, c := range p.Causes {
		fmt.Fprintf(&b, "cause of %s: %s%s\n", c.Record, c.Cause, map[bool]string{true: " (computed)"}[c.Computed])
	}
	for _, s := range p.Statuses {
		fmt.Fprintf(&b, "status of %s: %s\n", s.Record, describeStatus(&s.Status))
	}
	if p.Stopping > 0 {
		fmt.Fprintf(&b, "until %d pods are gone\n", p.Stopping)
	}
	if !p.WakeAt.IsZero() {
		fmt.Fprintf(&b, "look again at %s\n", p.WakeAt.UTC().Format(clockFormat))
	}
	return b.String()
}
