package agent

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// PostStart is how the hook after the start of a container has ended.
type PostStart struct {
	At      time.Time
	Failed  bool
	Message string // why
}

// hookOf returns a container's postStart or preStop hook, nil if it has none.
func hookOf(c *corev1.Container, kind ActKind) *corev1.LifecycleHandler {
	switch {
	case c.Lifecycle == nil:
		return nil
	case kind == ActPostStart:
		return c.Lifecycle.PostStart
	default:
		return c.Lifecycle.PreStop
	}
}

// begun: the container runs and its postStart hook, if any, has succeeded.
func (l *life) begun(u *unit) bool {
	if !u.running() || hookOf(u.spec, ActPostStart) == nil {
		return u.running()
	}
	hook, done := l.seen.PostStarts[u.current.ID]
	return done && !hook.Failed
}

// beginning: the container's process runs and its postStart hook does not have an
// end yet. To users it does not run before.
func (l *life) beginning(u *unit) bool {
	if l.stopping() || !u.running() || hookOf(u.spec, ActPostStart) == nil {
		return false
	}
	_, done := l.seen.PostStarts[u.current.ID]
	return !done
}

// postStarting: the hook after the start of a container runs now.
func (l *life) postStarting(u *unit) bool {
	return l.seen.InFlight[Act{Kind: ActPostStart, ID: u.current.ID}.Key()]
}

// hookFailed returns how the postStart hook of a container that runs has failed.
func (l *life) hookFailed(u *unit) (PostStart, bool) {
	if !u.running() || hookOf(u.spec, ActPostStart) == nil {
		return PostStart{}, false
	}
	hook := l.seen.PostStarts[u.current.ID]
	return hook, hook.Failed
}

// runHooks plans the postStart hooks that have not run. An agent that has just
// started runs the hook of a container again that nobody was told has begun:
// hooks run at least once. One that is being stopped begins nothing any more.
func (l *life) runHooks() {
	if l.d.Ending {
		return
	}
	for _, u := range l.all() {
		if l.beginning(u) {
			l.do(Act{Kind: ActPostStart, Container: u.spec.Name, ID: u.current.ID, Why: "its hook runs after its start"})
			l.why("waiting for the postStart hook of %s", u.spec.Name)
		}
	}
}

// holdsNext: the containers after this one are not started before it has been,
// hook included. Where it cannot be started, or waits to be started again, it
// holds nothing up.
func (l *life) holdsNext(u *unit) bool {
	if hookOf(u.spec, ActPostStart) == nil {
		return false
	}
	if u.current == nil {
		_, noImage := l.failure(ActEnsureImage, u.spec.Name)
		_, noStart := l.failure(ActStart, u.spec.Name)
		return !noImage && !noStart
	}
	return l.beginning(u)
}
