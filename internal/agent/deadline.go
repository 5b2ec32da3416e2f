package agent

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// What the API says of a pod that has outlived its activeDeadlineSeconds.
const (
	reasonDeadline  = "DeadlineExceeded"
	messageDeadline = "Pod was active on the node longer than the specified deadline"
)

// activeUntil is when a pod has to have ended; zero is never.
func activeUntil(pod *corev1.Pod) time.Time {
	seconds, start := pod.Spec.ActiveDeadlineSeconds, pod.Status.StartTime
	if seconds == nil || start == nil {
		return time.Time{}
	}
	return start.Add(time.Duration(*seconds) * time.Second)
}

// expired: the pod is active for longer than it may be.
func expired(now time.Time, pod *corev1.Pod) bool {
	until := activeUntil(pod)
	return !until.IsZero() && !now.Before(until)
}

func (l *life) expired() bool { return expired(l.now, l.pod) }

// endedInTime: the main containers had all ended for good before that.
func (l *life) endedInTime() bool {
	until := activeUntil(l.pod)
	return l.mainsDone() && !slices.ContainsFunc(l.mains, func(u *unit) bool { return !u.current.FinishedAt.Before(until) })
}

// expire drains a pod whose time is over and stops its containers, each within
// the grace period. The pod has failed when the last has ended.
func (l *life) expire() {
	l.d.Ending = true
	began := l.seen.Memory.ExpiredAt
	if began.IsZero() {
		began = l.now
		l.d.Memory.ExpiredAt = began
		l.tell("", corev1.EventTypeNormal, reasonDeadline, messageDeadline)
	}
	if len(l.running()) == 0 {
		l.why("waiting for a start to end")
		return
	}
	grace := specGrace(l.pod)
	if drainOff(l.pod) || l.stopBegan() || l.drainStep("", began, grace, true) {
		l.stopInTurn(began.Add(grace))
	}
}
