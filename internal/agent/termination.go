package agent

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	lingerLimit    = time.Second             // for peers to confirm the last bytes
	lateExtra      = 2 * time.Second         // for a container whose turn came when the grace period was over
	killAgain      = 5 * time.Second         // between SIGKILLs
	imagePullShown = 2500 * time.Millisecond // how long ErrImagePull shows before ImagePullBackOff
)

// terminate drains a deleted pod, stops its containers and takes away what is
// left, and only then lets the API forget it.
func (l *life) terminate() {
	l.d.Ending = true
	if len(l.running()) > 0 {
		if l.drained() {
			l.stopInTurn(l.deadline())
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
	left := l.removeContainers(why)
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

// deadline is when the containers of a deleted pod are killed: its whole grace period
// after this agent has seen the deletion. The deletionTimestamp may have passed before
// that (no agent ran meanwhile), and is another machine's clock. So a restart of the
// agent begins the grace period anew, as one of a kubelet does
// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination).
func (l *life) deadline() time.Time {
	return l.seen.DeletionSeen.Add(l.grace())
}

func (l *life) grace() time.Duration {
	if s := l.pod.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

// drained takes the drain of a deleted pod one step on and reports whether its
// containers may be stopped.
func (l *life) drained() bool {
	if drainOff(l.pod) || l.stopBegan() || l.grace() == 0 { // a forced deletion waits for nothing
		return true
	}
	return l.drainStep("", l.seen.DeletionSeen, l.grace(), false)
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

// stopInTurn stops what runs. The preStop hooks of all containers run at once,
// the signals go in turn.
func (l *life) stopInTurn(deadline time.Time) {
	group := l.stopGroup(deadline)
	l.stop(group, deadline)
	for _, u := range l.running() {
		if !slices.Contains(group, u) && !l.postStarting(u) {
			l.preStop(u, deadline)
		}
	}
}

// stopGroup returns the containers to signal now: first the main and plain init
// ones together, then the sidecars one by one in reverse. After the deadline all.
func (l *life) stopGroup(deadline time.Time) []*unit {
	running := l.running()
	if !l.now.Before(deadline) {
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
		progress := l.seen.Stops[u.current.ID]
		killAt := l.killAt(u, deadline)
		late := !l.now.Before(killAt)
		act := Act{Container: u.spec.Name, ID: u.current.ID}
		switch {
		case !late && l.postStarting(u):
			l.why("waiting for the postStart hook of %s to be cut off", u.spec.Name)
		case !late && l.preStop(u, deadline):
		case progress.SignalledAt.IsZero() && (!late || l.signalledLate(u)):
			act.Kind, act.Why = ActStop, l.stopReason(u)
			l.end(u, act)
		case !late:
			l.why("waiting for %s to end", u.spec.Name)
		case l.now.Before(progress.KilledAt.Add(killAgain)):
			l.wake(progress.KilledAt.Add(killAgain))
		default:
			act.Kind, act.Why = ActKill, "its grace period is over"
			l.end(u, act)
		}
		if !late {
			l.wake(killAt)
		}
	}
}

// preStop plans the hook of a container that is to be stopped, and reports
// whether the stop signal has to wait for it.
func (l *life) preStop(u *unit, deadline time.Time) bool {
	if hookOf(u.spec, ActPreStop) == nil || l.seen.Stops[u.current.ID].PreStopDone || !l.now.Before(deadline) {
		return false
	}
	if l.restartsAll() != nil { // no hook begins any more
		return l.seen.InFlight[Act{Kind: ActPreStop, ID: u.current.ID}.Key()]
	}
	l.end(u, Act{Kind: ActPreStop, Container: u.spec.Name, ID: u.current.ID, Deadline: deadline, Why: "its hook runs before the stop signal"})
	return true
}

// end plans one step of a container's end, and tells of the first.
func (l *life) end(u *unit, act Act) {
	l.why("stopping %s", u.spec.Name)
	hooking := l.seen.InFlight[Act{Kind: ActPreStop, ID: u.current.ID}.Key()]
	if l.do(act) && !hooking && l.seen.Stops[u.current.ID] == (StopProgress{}) {
		l.tellStop(u)
	}
}

// signalledLate: the signal may come only when the deadline has passed, because
// a hook or other containers had to end before.
func (l *life) signalledLate(u *unit) bool {
	return l.stopGrace() > 0 && (hookOf(u.spec, ActPreStop) != nil || u.kind == sidecarUnit)
}

// stopGrace is how long the containers have to end once they are told to.
func (l *life) stopGrace() time.Duration {
	switch {
	case l.ending():
		return l.grace()
	case l.seen.Verdict != nil:
		return min(l.seen.Verdict.Grace, specGrace(l.pod))
	}
	return specGrace(l.pod)
}

// killAt is when a container is killed: at the deadline, or if it was signalled
// late, a little after the signal.
func (l *life) killAt(u *unit, deadline time.Time) time.Time {
	signalled := l.seen.Stops[u.current.ID].SignalledAt
	if extra := signalled.Add(lateExtra); l.signalledLate(u) && !signalled.IsZero() && extra.After(deadline) {
		return extra
	}
	return deadline
}

func (l *life) tellStop(u *unit) {
	if sentence, ok := l.condemnation(u); ok && !l.stopping() {
		l.tell(u.spec.Name, corev1.EventTypeNormal, "Killing", "%s", sentence.event)
		return
	}
	l.tell(u.spec.Name, corev1.EventTypeNormal, "Killing", "Stopping container %s", u.spec.Name)
}

func (l *life) stopReason(u *unit) string {
	sentence, condemned := l.condemnation(u)
	switch {
	case l.ending():
		return "the pod is drained"
	case l.expired():
		return "the pod has outlived its activeDeadlineSeconds"
	case condemned:
		return sentence.why
	}
	return "the pod has finished"
}

// restartCondemned stops containers that have failed a probe or their postStart
// hook, after a drain: while one of them is not ready, the pod is not, and so
// gets no new connections. One whose hook has failed never had any.
func (l *life) restartCondemned() {
	condemned := false
	for _, u := range l.running() {
		sentence, ok := l.condemnation(u)
		if !ok {
			continue
		}
		condemned = true
		began, grace := sentence.at, l.restartGrace(u)
		if began.Before(l.seen.Since) {
			began = l.seen.Since
		}
		stopping := l.seen.Stops[u.current.ID] != StopProgress{}
		drain := sentence.drain && !drainOff(l.pod) && grace > 0 && !stopping
		if drain && !l.drainStep(u.spec.Name, began, grace, true) {
			continue
		}
		if sentence.again {
			l.d.Memory.Again[u.current.ID], u.again = true, true
		}
		l.stop([]*unit{u}, began.Add(grace))
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
// everything if somebody else has declared it failed. All of it has one grace period.
func (l *life) endRunning() {
	if len(l.running()) == 0 {
		return
	}
	l.d.Ending = true
	if l.d.Memory.EndedAt.IsZero() {
		l.d.Memory.EndedAt = l.now
	}
	l.stopInTurn(l.d.Memory.EndedAt.Add(l.stopGrace()))
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
