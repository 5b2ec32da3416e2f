package agent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// Routes is who may send a pod traffic, as the API tells at one moment.
type Routes struct {
	Services []string // names of the Services whose selector selects the pod
	Slices   []Slice  // the EndpointSlices of Services with a selector that list the pod
	Others   uint64   // the highest resourceVersion of the slices of Services that select other pods
	Proxies  []Proxy  // one for each node with a live lease
}

// Slice is how an EndpointSlice lists the pod.
type Slice struct {
	Service     string
	Version     uint64 // the slice's resourceVersion
	Serving     bool   // the pod is ready, as far as the slice knows
	Terminating bool
}

// withdraws: no proxy that has applied the slice sends the pod new connections,
// but for Services that publish pods which are not ready.
func (s Slice) withdraws(restart bool) bool { return s.Terminating || restart && !s.Serving }

// Proxy is how far the service proxy of a live node is.
type Proxy struct {
	Node    string
	Applied uint64 // the resourceVersion of its last published ruleset; 0 before any
}

// Drain is how far the drain of a pod has come. It begins as the zero value.
type Drain struct {
	// Versions are the slice versions, by Service, that first listed the pod as
	// terminating (or, for a restart, as not ready).
	Versions map[string]uint64
	// Others is the version up to which slices are awaited that do not list the
	// pod: it may have left one of them just before, by a change of labels or of
	// a selector.
	Others      uint64
	ConfirmedAt time.Time // when every live proxy had applied them
	Restart     bool      // of a container of a pod that stays
	DoneAt      time.Time // when the containers may be stopped
	Why         string    // how it ended, or what it waits for
	Expired     bool      // it ended by its deadline
}

// drainTask is one drain to be done.
type drainTask struct {
	began    time.Time
	deadline time.Time
	routed   bool // the pod has an address that the API knows
	sockets  bool // its sockets can be looked at
	restart  bool // of one container: the pod stays
	idle     bool // connections that are idle hold it too
}

const (
	lookApart    = 8 * time.Millisecond   // between the two quiet looks
	equalBusy    = 20 * time.Millisecond  // received and sent at the same instant
	silentBusy   = time.Second            // a connection that has not said anything yet
	unlookedIdle = 500 * time.Millisecond // for a pod whose sockets cannot be told from the node's
)

// step takes the drain one step on: endpoints, then proxies, then connections.
// It returns the next state and what is wanted: a look at the sockets, a version
// that the proxies have to be asked for, and to be called again at a time if
// nothing happens before.
func (d Drain) step(now time.Time, task drainTask, routes Routes, looks []Look) (next Drain, wants drainWants) {
	if !d.DoneAt.IsZero() {
		return d, wants
	}
	waiting := ""
	if d.ConfirmedAt.IsZero() {
		if waiting, wants.version = d.confirm(task, routes); waiting == "" {
			d.ConfirmedAt = now
		}
	}
	if waiting == "" {
		waiting, wants.look, wants.wake = d.quiet(now, task, looks)
	}
	switch {
	case waiting == "":
		d.DoneAt, d.Why = now, fmt.Sprintf("drained in %s", now.Sub(task.began).Round(time.Millisecond))
	case !now.Before(task.deadline):
		d.DoneAt, d.Expired, d.Why = now, true, waiting
	default:
		d.Why = waiting
		if wants.wake.IsZero() || task.deadline.Before(wants.wake) {
			wants.wake = task.deadline
		}
		return d, wants
	}
	return d, drainWants{}
}

// drainWants is what a drain needs to get on.
type drainWants struct {
	look    bool      // at the sockets
	version uint64    // to be asked for; 0 is none
	wake    time.Time // when to step again; zero is never
}

// confirm notes the slice versions that proxies have to reach and returns what is
// still missing, "" when every live proxy is there. A proxy publishes of itself
// while it sees the pod terminating in a slice of such a version; if it may not,
// confirm also returns the version to ask for.
func (d *Drain) confirm(task drainTask, routes Routes) (waiting string, ask uint64) {
	if !task.routed {
		return "", 0
	}
	for _, s := range routes.Slices {
		if !s.withdraws(task.restart) && !slices.Contains(routes.Services, s.Service) {
			return fmt.Sprintf("waiting for the endpoint slices of Service %s, which no longer selects the pod, to leave it out", s.Service), 0
		}
	}
	if d.Others == 0 {
		d.Others = routes.Others
	}
	need := d.Others
	for _, service := range routes.Services {
		version := cmp.Or(d.Versions[service], withdrawn(service, task.restart, routes.Slices))
		if version == 0 {
			return fmt.Sprintf("waiting for an endpoint slice of Service %s to show the pod as leaving", service), 0
		}
		d.note(service, version)
		need = max(need, version)
	}
	var behind []string
	for _, proxy := range routes.Proxies {
		if proxy.Applied < need {
			behind = append(behind, proxy.Node)
		}
	}
	if len(behind) == 0 {
		return "", 0
	}
	if !slices.ContainsFunc(routes.Slices, func(s Slice) bool { return s.Terminating && s.Version >= need }) {
		ask = need
	}
	slices.Sort(behind)
	return fmt.Sprintf("waiting for the service proxy of %s to confirm version %d", strings.Join(behind, ", "), need), ask
}

// note remembers the version at which a Service's slices let the pod go.
func (d *Drain) note(service string, version uint64) {
	if d.Versions[service] == version {
		return
	}
	d.Versions = maps.Clone(d.Versions) // the state before is the caller's
	if d.Versions == nil {
		d.Versions = map[string]uint64{}
	}
	d.Versions[service] = version
}

// withdrawn is the highest version of a Service's slices if they withdraw the pod, 0 if not.
func withdrawn(service string, restart bool, listed []Slice) uint64 {
	var version uint64
	for _, s := range listed {
		if s.Service == service && s.withdraws(restart) {
			version = max(version, s.Version)
		}
	}
	return version
}

// quiet says what keeps the connections from being done, "" when two looks in a
// row since the proxies' confirmation have found none busy.
func (d Drain) quiet(now time.Time, task drainTask, looks []Look) (waiting string, look bool, wake time.Time) {
	from := d.ConfirmedAt
	if !task.sockets {
		if until := from.Add(unlookedIdle); task.routed && len(d.Versions) > 0 && now.Before(until) {
			return "waiting for connections to end", false, until
		}
		return "", false, time.Time{}
	}
	var recent []Look
	for _, l := range looks {
		if !l.At.Before(from) {
			recent = append(recent, l)
		}
	}
	waiting = "waiting for two looks that find no busy connection"
	quietLooks := 0
	for _, l := range recent {
		quietLooks++
		waiting = "waiting for a second look that finds no busy connection"
		if busy := busyConnections(l.Sockets, task.idle); busy > 0 {
			quietLooks = 0
			waiting = fmt.Sprintf("waiting for %d busy connection(s)", busy)
			if task.idle {
				waiting = fmt.Sprintf("waiting for %d connection(s) to end", busy)
			}
		}
	}
	if quietLooks >= 2 && recent[len(recent)-1].At.Sub(recent[len(recent)-2].At) >= lookApart {
		return "", false, time.Time{}
	}
	if len(recent) > 0 {
		if due := recent[len(recent)-1].At.Add(lookEvery); now.Before(due) {
			return waiting, false, due
		}
	}
	return waiting, true, time.Time{}
}

// busyConnections counts the connections to a pod's listening ports that a
// request may be in flight on, with idle all that are open. Connections that
// the pod itself has opened to elsewhere are its own affair.
func busyConnections(sockets []Socket, idle bool) int {
	listening := map[uint16]bool{}
	for _, s := range sockets {
		if s.State == SocketListen {
			listening[s.LocalPort] = true
		}
	}
	busy := 0
	for _, s := range sockets {
		if listening[s.LocalPort] && (s.busy() || idle && s.open()) {
			busy++
		}
	}
	return busy
}

// busy: somebody may wait for an answer on this socket. For a listener, a
// connection waits to be accepted.
func (s Socket) busy() bool {
	switch s.State {
	case SocketSynReceived:
		return true
	case SocketListen:
		return s.ReceiveQueue > 0
	case SocketClosing:
		return s.SendQueue > 0
	case SocketOther:
		return false
	}
	switch {
	case s.ReceiveQueue > 0 || s.SendQueue > 0:
		return true
	case s.BytesReceived == 0:
		return s.LastReceived < silentBusy && s.State == SocketEstablished
	case s.BytesSent == 0:
		return true // asked and never answered, however long ago; its times may be equal
	case s.LastReceived == s.LastSent:
		return s.LastReceived < equalBusy
	default:
		return s.LastReceived < s.LastSent
	}
}

// open: the server may still be asked, or answer.
func (s Socket) open() bool { return s.State == SocketEstablished || s.State == SocketCloseWait }

// closing: the peer has not confirmed that it has everything that was sent.
func closing(sockets []Socket) bool {
	return slices.ContainsFunc(sockets, func(s Socket) bool { return s.State == SocketClosing })
}

// drainTimeout is how long the drain of a pod may take: its annotation, or the
// grace period less two seconds (less a half where it is short). The grace period
// is the one of its deletion, or of the probe that has a container restarted.
func drainTimeout(pod *corev1.Pod, grace time.Duration) time.Duration {
	timeout := max(grace-2*time.Second, grace/2)
	if set, err := time.ParseDuration(pod.Annotations[v1alpha1.AnnotationDrainTimeout]); err == nil && set >= 0 {
		timeout = set
	}
	return min(timeout, grace)
}

// drainOff: the pod has chosen to be stopped as Kubernetes does.
func drainOff(pod *corev1.Pod) bool {
	return pod.Annotations[v1alpha1.AnnotationDrain] == v1alpha1.DrainOff
}

// drainIdle: the pod has chosen to be stopped when its connections have ended.
func drainIdle(pod *corev1.Pod) bool {
	return pod.Annotations[v1alpha1.AnnotationDrain] == v1alpha1.DrainConnections
}
