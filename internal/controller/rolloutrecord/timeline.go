package rolloutrecord

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
)

const (
	// grain is how much later than a time in whole seconds its event may have
	// been seen for the time of seeing to be the better one.
	grain = 1500 * time.Millisecond

	// maxNote bounds a note, in bytes.
	maxNote = 300
)

// Pod is a pod and what the watch saw of it.
type Pod struct {
	*corev1.Pod
	Seen Seen
	Gone time.Time // when it was seen to be gone; zero while it is there
}

// Seen says when a pod was first seen in each stage; zero where it was not.
type Seen struct {
	Created, Scheduled, Started, Ready, Deleted time.Time
}

// see notes the stages in which a pod is seen for the first time.
func (s *Seen) see(pod *corev1.Pod, now time.Time) {
	note := func(at *time.Time, reached bool) {
		if at.IsZero() && reached {
			*at = now
		}
	}
	note(&s.Created, true)
	note(&s.Scheduled, pod.Spec.NodeName != "")
	note(&s.Started, !startedAt(pod).IsZero())
	note(&s.Ready, !condition.Since(pod, corev1.PodReady).IsZero())
	note(&s.Deleted, pod.DeletionTimestamp != nil)
}

// refined returns the time at which something was seen, if a time in whole
// seconds allows that it happened then, else that time; nil when it is zero.
func refined(seconds, seen time.Time) *metav1.MicroTime {
	if seconds.IsZero() {
		return nil
	}
	if late := seen.Sub(seconds); !seen.IsZero() && late >= 0 && late <= grain {
		return moment(seen)
	}
	return moment(seconds)
}

// settled returns what is recorded of a moment or, if that is nothing, a time in
// whole seconds. Either may still be refined, once: a pod may be in the cache, and
// be recorded, shortly before the watch tells that it was seen.
func settled(was *metav1.MicroTime, seconds, seen time.Time) *metav1.MicroTime {
	if was == nil || was.IsZero() {
		return refined(seconds, seen)
	}
	if was.Nanosecond() != 0 {
		return was
	}
	return refined(was.Time, seen)
}

// moment returns a time as records hold it: to the microsecond, as it will be
// read back.
func moment(t time.Time) *metav1.MicroTime {
	return ptr.To(metav1.NewMicroTime(t.Truncate(time.Microsecond)))
}

// first returns the first time that is known.
func first(times ...*metav1.MicroTime) *metav1.MicroTime {
	for _, t := range times {
		if t != nil && !t.IsZero() {
			return t
		}
	}
	return nil
}

// timelineOf returns the timeline of a pod: what its node noted, then what was
// known before, then what follows from the pod itself. It also returns when the
// pod becomes available by the mere passing of time, zero when it does not.
func timelineOf(pod Pod, set string, minReadySeconds int32, was v1alpha1.PodTimeline, now time.Time) (t v1alpha1.PodTimeline, wake time.Time) {
	noted, _ := parseMoments(pod.Annotations[v1alpha1.AnnotationMoments])
	t = v1alpha1.PodTimeline{
		Name:            pod.Name,
		Set:             set,
		Node:            pod.Spec.NodeName,
		Created:         settled(was.Created, pod.CreationTimestamp.Time, pod.Seen.Created),
		Scheduled:       settled(was.Scheduled, condition.Since(pod.Pod, corev1.PodScheduled), pod.Seen.Scheduled),
		ImageReady:      first(noted.ImageReady, was.ImageReady),
		Started:         first(noted.Started, was.Started, refined(startedAt(pod.Pod), pod.Seen.Started)),
		Ready:           first(noted.Ready, was.Ready, refined(condition.Since(pod.Pod, corev1.PodReady), pod.Seen.Ready)),
		Available:       was.Available,
		StopRequested:   first(was.StopRequested, stopRequested(pod)),
		EndpointRemoved: first(noted.EndpointRemoved, was.EndpointRemoved),
		Drained:         first(noted.Drained, was.Drained),
		Stopped:         first(noted.Stopped, was.Stopped),
		Note:            noteOf(pod.Pod, noted),
	}
	if t.Scheduled == nil && pod.Spec.NodeName != "" && !pod.Seen.Scheduled.IsZero() {
		t.Scheduled = moment(pod.Seen.Scheduled)
	}
	if !pod.Gone.IsZero() {
		t.Stopped = first(t.Stopped, moment(pod.Gone))
	}
	if t.Ready != nil && (t.Available == nil || minReadySeconds == 0) {
		t.Available, wake = available(pod, t, minReadySeconds, now)
	}
	order(&t)
	return t, wake
}

// order puts moments that are known less well where those next to them allow: one
// in whole seconds is not before what came before it, and one that the watch saw
// is not after what the node says came next.
func order(t *v1alpha1.PodTimeline) {
	if t.Scheduled != nil && t.Scheduled.Nanosecond() == 0 {
		t.Scheduled = latest(t.Scheduled, t.Created)
	}
	t.Scheduled = earliest(t.Scheduled, t.ImageReady)
	t.Created = earliest(t.Created, t.Scheduled)
	t.StopRequested = earliest(t.StopRequested, t.EndpointRemoved)
}

// earliest returns t, or other if both are known and it is earlier.
func earliest(t, other *metav1.MicroTime) *metav1.MicroTime {
	if t != nil && other != nil && other.Time.Before(t.Time) {
		return other
	}
	return t
}

// latest returns t, or other if both are known and it is later.
func latest(t, other *metav1.MicroTime) *metav1.MicroTime {
	if t != nil && other != nil && other.Time.After(t.Time) {
		return other
	}
	return t
}

// available returns when a pod became available, or will.
func available(pod Pod, t v1alpha1.PodTimeline, minReadySeconds int32, now time.Time) (at *metav1.MicroTime, wake time.Time) {
	if minReadySeconds == 0 {
		return t.Ready, time.Time{}
	}
	since := condition.Since(pod.Pod, corev1.PodReady)
	due := since.Add(time.Duration(minReadySeconds) * time.Second)
	switch {
	case since.IsZero() || t.StopRequested != nil && due.After(t.StopRequested.Time):
		return nil, time.Time{}
	case due.After(now):
		return nil, due
	}
	return moment(due), time.Time{}
}

// stopRequested returns when a pod was deleted, as far as the pod tells: the
// deletion timestamp is the end of the grace period, and a second deletion with
// a shorter one moves it.
func stopRequested(pod Pod) *metav1.MicroTime {
	switch at := pod.DeletionTimestamp; {
	case at != nil:
		asked := at.Add(-time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, 0)) * time.Second)
		if seen := pod.Seen.Deleted; !seen.IsZero() && seen.Before(asked) {
			return moment(seen)
		}
		return refined(asked, pod.Seen.Deleted)
	case !pod.Gone.IsZero():
		return moment(pod.Gone)
	}
	return nil
}

// startedAt returns when the last container was started, zero while one was not,
// or when one was restarted, so that its first start is not known any more.
func startedAt(pod *corev1.Pod) (last time.Time) {
	if len(pod.Status.ContainerStatuses) < len(pod.Spec.Containers) {
		return time.Time{}
	}
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		var at time.Time
		switch {
		case c.RestartCount > 0:
		case c.State.Running != nil:
			at = c.State.Running.StartedAt.Time
		case c.State.Terminated != nil:
			at = c.State.Terminated.StartedAt.Time
		}
		if at.IsZero() {
			return time.Time{}
		}
		if at.After(last) {
			last = at
		}
	}
	return last
}

// noteOf says what is not as it should be with a pod.
func noteOf(pod *corev1.Pod, noted v1alpha1.PodMoments) string {
	var notes []string
	add := func(reason, message string) {
		switch {
		case reason != "" && message != "":
			notes = append(notes, reason+": "+message)
		case reason+message != "":
			notes = append(notes, reason+message)
		}
	}
	if c := condition.Find(&pod.Status, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		add(c.Reason, c.Message)
	}
	var restarts int32
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			restarts += list[i].RestartCount
			if w := list[i].State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
				add(w.Reason, w.Message)
			}
		}
	}
	switch {
	case restarts == 1:
		add("restarted once", "")
	case restarts > 1:
		add(fmt.Sprintf("restarted %d times", restarts), "")
	}
	if pod.Status.Phase == corev1.PodFailed {
		add(pod.Status.Reason, pod.Status.Message)
	}
	add(noted.Note, "")
	return bounded(strings.Join(notes, "; "), maxNote)
}

// bounded cuts a text to at most limit bytes of valid UTF-8.
func bounded(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
	}
	return s
}

// parseMoments reads AnnotationMoments. What is not PodMoments in JSON is an
// error; nothing at all is not.
func parseMoments(annotation string) (v1alpha1.PodMoments, error) {
	var moments v1alpha1.PodMoments
	return moments, parse(annotation, &moments)
}

// parseAuthor reads AnnotationChangedBy, nil when it holds no Author.
func parseAuthor(annotation string) *v1alpha1.Author {
	var author v1alpha1.Author
	if err := parse(annotation, &author); err != nil || author == (v1alpha1.Author{}) {
		return nil
	}
	return &author
}

// parse reads an annotation in JSON into an empty value, and leaves that empty
// when it cannot.
func parse[T any](annotation string, into *T) error {
	if annotation == "" {
		return nil
	}
	var value T
	if err := json.Unmarshal([]byte(annotation), &value); err != nil {
		return fmt.Errorf("read annotation: %w", err)
	}
	*into = value
	return nil
}
