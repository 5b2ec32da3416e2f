package agent

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// ProbeKind is which of a container's probes.
type ProbeKind string

// The probes of a container.
const (
	StartupProbe   ProbeKind = "Startup"
	ReadinessProbe ProbeKind = "Readiness"
	LivenessProbe  ProbeKind = "Liveness"
)

// ProbeKey is one probe of one attempt of a container.
type ProbeKey struct {
	ID   string
	Kind ProbeKind
}

// ProbeState is what a probe has told so far.
type ProbeState struct {
	OK        bool // the verdict after thresholds; of a liveness probe, false until Failed counts for nothing
	Ever      bool // it has succeeded at least once
	Failed    bool // failureThreshold was reached and no success since
	FailedAt  time.Time
	Successes int       // in a row
	Failures  int       // in a row, at most one counted in each period
	CountedAt time.Time // of the last failure that was counted, or probe that could not be made
	At        time.Time // the end of the last probe
	Took      time.Duration
	Message   string
}

// The cadence before the first success. It grows with the time that the container
// has not been ready already, so that one which listens at once is ready at once,
// and a pod which never gets ready does not cost much: a look is late by a quarter
// of that time at first, by no more than lookEvery up to a second, then by 1 %; a
// probe is late by 5 %.
const (
	lookSoonest = time.Millisecond
	lookEvery   = 10 * time.Millisecond
	probeEvery  = 50 * time.Millisecond
)

// lookPause is how long after a look the next one is due, waited being the time
// from the start of the container to the look.
func lookPause(waited time.Duration) time.Duration {
	return max(lookSoonest, min(lookEvery, waited/4), waited/100)
}

// settling is the time that a process has to begin. A kubelet takes about that
// long to come to its first probe, so manifests rely on it: in it no liveness
// probe is made, and a failure of another counts for nothing.
const settling = time.Second

func (s ProbeState) dueAt(kind ProbeKind, probe *corev1.Probe, started, now time.Time) time.Time {
	first, period := firstProbe(kind, probe, started), probePeriod(probe)
	switch {
	case s.At.IsZero() && s.Ever: // recalled from the pod's status
		return now
	case s.At.IsZero():
		return first
	case kind == LivenessProbe || s.Ever:
		return s.At.Add(period)
	}
	return s.At.Add(min(period, max(probeEvery, 4*s.Took, s.At.Sub(first)/20)))
}

func firstProbe(kind ProbeKind, probe *corev1.Probe, started time.Time) time.Time {
	delay := time.Duration(probe.InitialDelaySeconds) * time.Second
	if kind == LivenessProbe {
		delay = max(delay, settling)
	}
	return started.Add(delay)
}

func probePeriod(probe *corev1.Probe) time.Duration {
	return time.Duration(max(probe.PeriodSeconds, 1)) * time.Second
}

// Next returns the state after a probe of a container that started and of a
// probe that ended at the times given, and whether the result counts as a
// failure to tell of. Before the first success probes come more often than
// their period, but failures are counted once in each period: thresholds keep
// the meaning that their documentation gives them.
func (s ProbeState) Next(probe *corev1.Probe, ok bool, message string, started, at time.Time, took time.Duration) (next ProbeState, tell bool) {
	s.At, s.Took, s.Message = at, took, message
	if ok {
		s.Ever, s.Failures, s.CountedAt = true, 0, time.Time{}
		s.Successes++
		if s.Successes >= int(max(probe.SuccessThreshold, 1)) {
			s.OK, s.Failed = true, false
		}
		return s, false
	}
	s.Successes = 0
	if !s.Ever && at.Before(started.Add(settling)) || !s.counts(probe, at) {
		return s, false
	}
	s.CountedAt = at
	s.Failures++
	threshold := int(probe.FailureThreshold)
	if threshold < 1 {
		threshold = 3
	}
	if s.Failures >= threshold && !s.Failed {
		s.OK, s.Failed, s.FailedAt = false, true, at
	}
	return s, true
}

// Unmade returns the state after a probe that could not be made, and whether that is
// to be told: of the container it tells nothing.
func (s ProbeState) Unmade(probe *corev1.Probe, at time.Time, took time.Duration) (next ProbeState, tell bool) {
	s.At, s.Took = at, took
	if tell = s.counts(probe, at); tell {
		s.CountedAt = at
	}
	return s, tell
}

// counts: the last that counted is a period ago.
func (s ProbeState) counts(probe *corev1.Probe, at time.Time) bool {
	const jitter = 10 * time.Millisecond
	return s.CountedAt.IsZero() || at.Sub(s.CountedAt)+jitter >= probePeriod(probe)
}

// probeOf returns the probe of a kind, nil if the container has none.
func probeOf(c *corev1.Container, kind ProbeKind) *corev1.Probe {
	switch kind {
	case StartupProbe:
		return c.StartupProbe
	case ReadinessProbe:
		return c.ReadinessProbe
	default:
		return c.LivenessProbe
	}
}

// observe plans the probes and looks that the running containers need. Of one that
// is being stopped only whether it is ready is asked, to its end: others than the
// drain may go by that.
func (l *life) observe() {
	for _, u := range l.all() {
		if !u.running() || u.kind == initUnit || u.kind == ephemeralUnit || l.condemned(u) {
			continue
		}
		signalled := !l.seen.Stops[u.current.ID].SignalledAt.IsZero()
		stays := !signalled && !l.ending()
		if !l.started(u) {
			if stays && l.begun(u) {
				l.probe(u, StartupProbe)
			}
			continue
		}
		if u.spec.ReadinessProbe != nil {
			l.probe(u, ReadinessProbe)
		} else if !signalled && !l.listening(u) {
			l.lookForPorts(u)
		}
		if u.spec.LivenessProbe != nil && stays {
			l.probe(u, LivenessProbe)
		}
	}
}

func (l *life) probe(u *unit, kind ProbeKind) {
	state := l.seen.Probes[ProbeKey{u.current.ID, kind}]
	due := state.dueAt(kind, probeOf(u.spec, kind), u.current.StartedAt, l.now)
	if l.now.Before(due) {
		l.wake(due)
		return
	}
	l.do(Act{Kind: ActProbe, Container: u.spec.Name, ID: u.current.ID, Probe: kind})
}

// started: the container has begun and its startup probe, if any, has succeeded.
func (l *life) started(u *unit) bool {
	return l.begun(u) && (u.spec.StartupProbe == nil || l.seen.Probes[ProbeKey{u.current.ID, StartupProbe}].OK)
}

// ready: the container may get traffic.
func (l *life) ready(u *unit) bool {
	switch {
	case !l.started(u) || l.condemned(u) || l.expired():
		return false
	case u.spec.ReadinessProbe != nil:
		return l.seen.Probes[ProbeKey{u.current.ID, ReadinessProbe}].OK
	default:
		return l.listening(u)
	}
}

// condemned: the container is to be stopped and, as its policy says, started
// again, because its liveness or startup probe or its postStart hook has failed.
func (l *life) condemned(u *unit) bool {
	_, ok := l.condemnation(u)
	return ok
}

// sentence is what has condemned a container.
type sentence struct {
	why   string
	event string // of the container's end, as Kubernetes writes it
	at    time.Time
	drain bool // it may have connections
	again bool // it is started again whatever its policy says
}

func (l *life) condemnation(u *unit) (sentence, bool) {
	if hook, failed := l.hookFailed(u); failed {
		return sentence{why: "its postStart hook failed: " + hook.Message, event: "FailedPostStartHook", at: hook.At}, true
	}
	if !u.running() {
		return sentence{}, false
	}
	if cause := l.restartsAll(); cause != nil {
		return restartAllSentence(u, cause), true
	}
	for _, kind := range []ProbeKind{StartupProbe, LivenessProbe} {
		state := l.seen.Probes[ProbeKey{u.current.ID, kind}]
		if probeOf(u.spec, kind) == nil || !state.Failed {
			continue
		}
		event := fmt.Sprintf("Container %s failed %s probe", u.spec.Name, strings.ToLower(string(kind)))
		if u.restartsAfter(exitTerminated) {
			event += ", will be restarted"
		}
		return sentence{why: "its probe failed: " + state.Message, event: event, at: state.FailedAt, drain: true}, true
	}
	if u.again || l.resizing(u) && resizesByRestart(u.spec, *u.current.Granted, l.allotted(u)) {
		return sentence{
			why: "its resources change, for which its resizePolicy wants a restart", at: l.seen.Allotment.At, drain: true, again: true,
			event: fmt.Sprintf("Container %s resize requires restart", u.spec.Name),
		}, true
	}
	return sentence{}, false
}

// listening: every TCP port that the container declares has a listener, or the
// pod does not want that to be asked. Once seen it stays true for this attempt.
// In the node's own network namespace ports say nothing of who listens, so there
// the question is not asked.
func (l *life) listening(u *unit) bool {
	if l.d.Memory.Listening[u.current.ID] || l.pod.Spec.HostNetwork || len(tcpPorts(u.spec)) == 0 ||
		l.pod.Annotations[v1alpha1.AnnotationReadyWhen] == v1alpha1.ReadyWhenStarted {
		return true
	}
	if len(l.seen.Looks) == 0 || l.seen.Network == nil {
		return false
	}
	look := l.seen.Looks[len(l.seen.Looks)-1]
	if look.At.Before(u.current.StartedAt) {
		return false
	}
	for _, port := range tcpPorts(u.spec) {
		if !listens(look.Sockets, l.seen.Network.IP, port) {
			return false
		}
	}
	l.d.Memory.Listening[u.current.ID] = true
	return true
}

func (l *life) lookForPorts(u *unit) {
	if len(l.seen.Looks) > 0 {
		last := l.seen.Looks[len(l.seen.Looks)-1].At
		if due := last.Add(lookPause(last.Sub(u.current.StartedAt))); l.now.Before(due) {
			l.wake(due)
			return
		}
	}
	l.do(Act{Kind: ActLook, Why: fmt.Sprintf("whether %s listens", u.spec.Name)})
}

func listens(sockets []Socket, ip netip.Addr, port uint16) bool {
	for _, s := range sockets {
		if s.State == SocketListen && s.LocalPort == port && (s.LocalAddr.Unmap().IsUnspecified() || s.LocalAddr.Unmap() == ip.Unmap()) {
			return true
		}
	}
	return false
}

// podPorts are the TCP ports that the containers of a pod declare.
func podPorts(pod *corev1.Pod) []uint16 {
	var ports []uint16
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			ports = append(ports, tcpPorts(&containers[i])...)
		}
	}
	return ports
}

func tcpPorts(c *corev1.Container) []uint16 {
	var ports []uint16
	for _, p := range c.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			ports = append(ports, uint16(p.ContainerPort))
		}
	}
	return ports
}
