package agent

import (
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// moments returns when things happened to the pod: what its annotation tells,
// which is never changed, then what this agent remembers, then what has just
// been seen for the first time.
func (l *life) moments() v1alpha1.PodMoments {
	m := earliest(momentsOf(l.pod), l.seen.Memory.Moments)
	first := func(moment **metav1.MicroTime, at time.Time) {
		if *moment == nil && !at.IsZero() {
			*moment = &metav1.MicroTime{Time: at}
		}
	}
	first(&m.ImageReady, l.imagesReadyAt())
	first(&m.Started, l.startedAt())
	if readiness(&l.d.Status) == corev1.ConditionTrue && readiness(&l.pod.Status) != corev1.ConditionTrue {
		first(&m.Ready, l.now)
	}
	if drain := l.d.Memory.Drain; l.ending() && !drain.Restart {
		if len(drain.Versions) > 0 { // else there was nothing to take out of service
			first(&m.EndpointRemoved, drain.ConfirmedAt)
		}
		if first(&m.Drained, drain.DoneAt); drain.Expired && m.Note == "" {
			m.Note = "not drained in time: " + drain.Why
		}
	}
	if (l.ending() || l.finished()) && len(l.running()) == 0 && !l.starting() {
		first(&m.Stopped, lastEnd(l.seen.Containers))
	}
	m.Attempts = l.attempts()
	return m
}

// earliest prefers the moments of a to those of b.
func earliest(a, b v1alpha1.PodMoments) v1alpha1.PodMoments {
	for _, pair := range []struct{ to, from **metav1.MicroTime }{
		{&a.ImageReady, &b.ImageReady}, {&a.Started, &b.Started}, {&a.Ready, &b.Ready},
		{&a.EndpointRemoved, &b.EndpointRemoved}, {&a.Drained, &b.Drained}, {&a.Stopped, &b.Stopped},
	} {
		if *pair.to == nil {
			*pair.to = *pair.from
		}
	}
	if a.Note == "" {
		a.Note = b.Note
	}
	return a
}

// imagesReadyAt is now if the images of all containers are on the node and some
// container has not begun yet; the images of an earlier time were not seen.
func (l *life) imagesReadyAt() time.Time {
	begun := true
	for _, u := range slices.Concat(l.inits, l.mains) {
		if u.current != nil {
			continue
		}
		if begun = false; len(l.lacking(u)) > 0 {
			return time.Time{}
		}
	}
	if begun {
		return time.Time{}
	}
	return l.now
}

// startedAt is when the last of the main containers was started for the first
// time, zero while one has not been.
func (l *life) startedAt() time.Time {
	var last time.Time
	for _, u := range l.mains {
		var first time.Time
		for _, c := range l.seen.Containers {
			if c.Name == u.spec.Name && c.StartError == "" && (first.IsZero() || c.StartedAt.Before(first)) {
				first = c.StartedAt
			}
		}
		if first.IsZero() {
			return time.Time{}
		}
		if first.After(last) {
			last = first
		}
	}
	return last
}

// lastEnd is when the last of the containers that have run has ended.
func lastEnd(containers []Container) time.Time {
	var last time.Time
	for _, c := range containers {
		if c.StartError == "" && c.FinishedAt.After(last) {
			last = c.FinishedAt
		}
	}
	return last
}

// attempts is how often what the pod waits for now has been tried in vain.
func (l *life) attempts() int32 {
	most := 0
	if l.ending() || l.seen.Gone || l.finished() {
		return 0
	}
	for key, failure := range l.seen.Failures {
		if kindOf(key) == ActPrepareVolumes && l.seen.Volumes {
			continue // they are there, and were to be renewed
		}
		if slices.Contains([]ActKind{ActSetupNetwork, ActPrepareVolumes, ActEnsureImage, ActStart}, kindOf(key)) {
			most = max(most, failure.Count)
		}
	}
	return int32(most)
}

// momentsOf reads a pod's moments. What cannot be read is nothing, nor is what was
// there before an agent has written: it came with the template.
func momentsOf(pod *corev1.Pod) v1alpha1.PodMoments {
	var m v1alpha1.PodMoments
	if pod.Status.StartTime == nil || json.Unmarshal([]byte(pod.Annotations[v1alpha1.AnnotationMoments]), &m) != nil {
		return v1alpha1.PodMoments{}
	}
	return m
}

// report is what the agent tells the API of a pod, in one write.
type report struct {
	status  corev1.PodStatus
	moments v1alpha1.PodMoments
}

// annotation is the value of AnnotationMoments, "" where there are none.
func (r *report) annotation() string {
	if r.moments == (v1alpha1.PodMoments{}) {
		return ""
	}
	text, err := json.Marshal(r.moments)
	if err != nil {
		panic("agent: moments cannot be written as JSON: " + err.Error()) // they are times, a text and a number
	}
	return string(text)
}

// news: the report tells what is worth a write. Moments alone are not: they go
// with the change of the status that they belong to.
func (r *report) news(old *report) bool {
	return r.moments.Attempts != old.moments.Attempts || !equality.Semantic.DeepEqual(&r.status, &old.status)
}

// reported is what the API has of the agent's reports.
func reported(pod *corev1.Pod) *report {
	return &report{status: pod.Status, moments: momentsOf(pod)}
}
