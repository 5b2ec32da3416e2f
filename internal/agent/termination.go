package agent

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	lingerLimit    = time.Second             // for peers to confirm the last bytes
	preStopExtra   = 2 * time.Second         // for a container whose hook took the whole grace period
	killAgain      = 5 * time.Second         // between SIGKILLs
	imagePullShown = 2500 * time.Millisecond // how long ErrImagePull shows before ImagePullBackOff
)

// terminate drains a deleted pod, stops its containers and takes away what is
// left, and only then lets the API forget it.
func (l *life) terminate() {
	l.d.Ending = true
	if running := l.running(); len(running) > 0 {
		if l.drained() {
			l.stop(l.stopGroup(), l.deadline())
		}
		l.observe()
		return
	}
	if l.starting() {
		l.why("waiting for a start to end")
		return
	}
	if l.dismantled() && !l.seen.Deleted {
		l.do(Act{Kind: ActDeletePod, Why: "nothing of it is left on the node"})
		l.why("waiting for the API to delete the pod")
	}
}

// purge takes away at once what is left of a pod that the API does not have.
func (l *life) purge() {
	l.d.Ending = true
	if l.starting() {
		l.why("waiting for a start to end")
		return
	}
	l.d.Done = l.takeAway("the pod is gone from the API")
}

// dismantled plans the removal of everything on the node and reports whether it
// has been done.
func (l *life) dismantled() bool {
	return !l.lingering() && l.takeAway("the pod has ended")
}

func (l *life) takeAway(why string) bool {
	left := false
	for _, c := range l.seen.Containers {
		if !l.seen.Removed[c.ID] {
			left = true
			l.do(Act{Kind: ActRemove, Container: c.Name, Attempt: c.Attempt, ID: c.ID, Why: why})
		}
	}
	if left && l.seen.Gone { // first silence the processes, then take their network
		return false
	}
	if l.seen.Network != nil {
		left = true
		l.do(Act{Kind: ActTeardownNetwork, Why: why})
	}
	if left {
		l.why("taking away containers and network")
		return false
	}
	if !l.seen.CleanedUp {
		l.do(Act{Kind: ActCleanUp, Why: why})
		return false
	}
	return true
}

// deadline is when the containers of a deleted pod are killed. The API counts
// in whole seconds; the agent's own first look makes it exact where it can.
func (l *life) deadline() time.Time {
	began, grace := l.graceBegan(), l.grace()
	return began.Add(grace)
}

func (l *life) grace() time.Duration {
	if s := l.pod.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

// graceBegan is when the present grace period began, never before the instant
// that the API has truncated.
func (l *life) graceBegan() time.Time {
	latest := l.pod.DeletionTimestamp.Add(time.Second - l.grace())
	if seen := l.seen.DeletionSeen; !seen.IsZero() && seen.Before(latest) {
		return seen
	}
	return latest
}

// drained takes the drain of a deleted pod one step on and reports whether its
// containers may be stopped.
func (l *life) drained() bool {
	if drainOff(l.pod) || l.stopBegan() || l.grace() == 0 { // a forced deletion waits for nothing
		return true
	}
	return l.drainStep("", l.graceBegan(), l.grace(), false)
}

// drainStep takes a drain one step on, of the pod or for the restart of one of
// its containers, and reports whether it is over. It began with a grace period.
func (l *life) drainStep(container string, began time.Time, grace time.Duration, restart bool) bool {
	drain := l.seen.Memory.Drain
	if drain.Restart != restart {
		drain = Drain{Restart: restart}
	}
	bound := drainTimeout(l.pod, grace)
	next, wants := drain.step(l.now, drainTask{
		began: began, deadline: began.Add(bound), restart: restart, idle: drainIdle(l.pod),
		routed: l.pod.Status.PodIP != "", sockets: l.seen.Network != nil || l.pod.Spec.HostNetwork && len(podPorts(l.pod)) > 0,
	}, l.seen.Routes, l.seen.Looks)
	l.d.Memory.Drain = next
	l.why("%s", next.Why)
	if wants.look {
		l.do(Act{Kind: ActLook, Why: "whether connections are busy"})
	}
	if wants.version > l.seen.Awaited {
		l.do(Act{Kind: ActAwait, Version: wants.version, Why: fmt.Sprintf("proxies have to confirm version %d", wants.version)})
	}
	if !wants.wake.IsZero() {
		l.wake(wants.wake)
	}
	if next.Expired && !drain.Expired {
		l.tell(container, corev1.EventTypeWarning, "DrainTimeout", "Stopping although not drained after %s: %s", bound.Round(time.Millisecond), next.Why)
	}
	return !next.DoneAt.IsZero()
}

// stopBegan: some container has been told to stop or its hook has run, by this
// agent; there is no way back to draining.
func (l *life) stopBegan() bool {
	for _, u := range l.running() {
		if p, ok := l.seen.Stops[u.current.ID]; ok && (p.PreStopDone || !p.SignalledAt.IsZero()) && !l.condemned(u) {
			return true
		}
	}
	return false
}

// stopGroup returns the containers to stop now: first the main and plain init
// ones together, then the sidecars one by one in reverse. After the deadline all.
func (l *life) stopGroup() []*unit {
	running := l.running()
	if l.ending() && !l.now.Before(l.deadline()) {
		return running
	}
	var group []*unit
	for _, u := range running {
		if u.kind != sidecarUnit {
			group = append(group, u)
		}
	}
	if len(group) > 0 {
		return group
	}
	return running[len(running)-1:]
}

// stop runs the hook of each container, then sends the stop signal, and kills
// what still runs at the deadline.
func (l *life) stop(units []*unit, deadline time.Time) {
	for _, u := range units {
		id, progress := u.current.ID, l.seen.Stops[u.current.ID]
		act := Act{Container: u.spec.Name, ID: id, Deadline: deadline}
		hook := u.spec.Lifecycle != nil && u.spec.Lifecycle.PreStop != nil && (l.seen.Verdict == nil || l.seen.Verdict.Grace > 0)
		killAt := deadline
		if hook && !progress.SignalledAt.IsZero() && progress.SignalledAt.Add(preStopExtra).After(killAt) {
			killAt = progress.SignalledAt.Add(preStopExtra)
		}
		late := !l.now.Before(killAt)
		switch {
		case hook && !progress.PreStopDone && !late:
			act.Kind, act.Why = ActPreStop, "its hook runs before the stop signal"
		case progress.SignalledAt.IsZero() && (hook || !late):
			act.Kind, act.Why = ActStop, l.stopReason(u)
		case !late:
			l.wake(killAt)
			l.why("waiting for %s to end", u.spec.Name)
			continue
		case l.now.Before(progress.KilledAt.Add(killAgain)):
			l.wake(progress.KilledAt.Add(killAgain))
			continue
		default:
			act.Kind, act.Why = ActKill, "its grace period is over"
		}
		if !late {
			l.wake(killAt)
		}
		l.why("stopping %s", u.spec.Name)
		if l.do(act) && progress == (StopProgress{}) {
			l.tellStop(u)
		}
	}
}

func (l *life) tellStop(u *unit) {
	if state, ok := l.condemnation(u); ok && !l.ending() {
		l.tell(u.spec.Name, corev1.EventTypeNormal, "Killing", "Container %s failed %s probe, will be restarted", u.spec.Name, strings.ToLower(string(state.kind)))
		return
	}
	l.tell(u.spec.Name, corev1.EventTypeNormal, "Killing", "Stopping container %s", u.spec.Name)
}

func (l *life) stopReason(u *unit) string {
	if state, ok := l.condemnation(u); ok && !l.ending() {
		return "its probe failed: " + state.Message
	}
	if !l.ending() {
		return "the pod has finished"
	}
	return "the pod is drained"
}

// restartCondemned stops containers that have failed their liveness or startup
// probe, after a drain: while one of them is not ready, the pod is not, and so
// gets no new connections.
func (l *life) restartCondemned() {
	condemned := false
	for _, u := range l.running() {
		state, ok := l.condemnation(u)
		if !ok {
			continue
		}
		condemned = true
		grace := l.restartGrace(u)
		stopping := l.seen.Stops[u.current.ID] != StopProgress{}
		if !drainOff(l.pod) && grace > 0 && !stopping && !l.drainStep(u.spec.Name, state.FailedAt, grace, true) {
			continue
		}
		l.stop([]*unit{u}, state.FailedAt.Add(grace))
	}
	if !condemned {
		l.d.Memory.Drain = Drain{}
	}
}

func specGrace(pod *corev1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

func (l *life) restartGrace(u *unit) time.Duration {
	for _, kind := range []ProbeKind{StartupProbe, LivenessProbe} {
		probe := probeOf(u.spec, kind)
		if probe != nil && probe.TerminationGracePeriodSeconds != nil && l.seen.Probes[ProbeKey{u.current.ID, kind}].Failed {
			return time.Duration(*probe.TerminationGracePeriodSeconds) * time.Second
		}
	}
	return specGrace(l.pod)
}

// endRunning stops what still runs of a pod that has finished: its sidecars, or
// everything if somebody else has declared it failed.
func (l *life) endRunning() {
	if len(l.running()) == 0 {
		return
	}
	group, grace := l.stopGroup(), specGrace(l.pod)
	if v := l.seen.Verdict; v != nil {
		group, grace = l.running(), min(v.Grace, grace)
	}
	deadline := l.now.Add(grace)
	if began := l.seen.Stops[group[0].current.ID].SignalledAt; !began.IsZero() {
		deadline = began.Add(grace)
	}
	l.stop(group, deadline)
}

// lingering: the last container has just ended and a peer has not confirmed yet
// that it has everything that was sent; the kernel goes on sending as long as
// the network namespace is there.
func (l *life) lingering() bool {
	if l.seen.Network == nil || l.seen.NetworkStale {
		return false
	}
	ended := lastEnd(l.seen.Containers)
	until := ended.Add(lingerLimit)
	if ended.IsZero() || !l.now.Before(until) {
		return false
	}
	look := Look{}
	if n := len(l.seen.Looks); n > 0 {
		look = l.seen.Looks[n-1]
	}
	switch {
	case !look.At.After(ended):
	case !closing(look.Sockets):
		return false
	case l.now.Before(look.At.Add(lookEvery)):
		l.wake(look.At.Add(lookEvery))
		return true
	}
	l.wake(until)
	l.do(Act{Kind: ActLook, Why: "whether peers have everything that was sent"})
	l.why("waiting for peers to confirm what was sent")
	return true
}
