package agent

import (
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
	Slices   []Slice  // the EndpointSlices that list the pod
	Proxies  []Proxy  // one for each node with a live lease
}

// Slice is how an EndpointSlice lists the pod.
type Slice struct {
	Service     string
	Version     uint64 // the slice's resourceVersion
	Ready       bool
	Terminating bool
}

// Proxy is how far the service proxy of a live node is.
type Proxy struct {
	Node    string
	Applied uint64 // the resourceVersion of its last published ruleset; 0 before any
}

// Drain is how far the drain of a pod has come. It begins as the zero value.
type Drain struct {
	// Versions are the slice versions, by Service, that first listed the pod as
	// terminating (or, for a restart, as not ready).
	Versions    map[string]uint64
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
}

const (
	lookApart    = 8 * time.Millisecond   // between the two quiet looks
	equalBusy    = 20 * time.Millisecond  // received and sent at the same instant
	silentBusy   = time.Second            // a connection that has not said anything yet
	proxySettle  = 100 * time.Millisecond // for proxies, which confirm nothing for a pod that stays
	unlookedIdle = 500 * time.Millisecond // for a pod whose sockets cannot be told from the node's
)

// step takes the drain one step on: endpoints, then proxies, then connections.
// It returns the next state, whether a look at the sockets is wanted, and when
// to come back if nothing happens before.
func (d Drain) step(now time.Time, task drainTask, routes Routes, looks []Look) (next Drain, look bool, wake time.Time) {
	if !d.DoneAt.IsZero() {
		return d, false, time.Time{}
	}
	waiting := ""
	if d.ConfirmedAt.IsZero() {
		d.Versions, waiting = d.confirm(task, routes)
		if waiting == "" {
			d.ConfirmedAt = now
		}
	}
	if waiting == "" {
		waiting, look, wake = d.quiet(now, task, looks)
	}
	switch {
	case waiting == "":
		d.DoneAt, d.Why = now, fmt.Sprintf("drained in %s", now.Sub(task.began).Round(time.Millisecond))
	case !now.Before(task.deadline):
		d.DoneAt, d.Expired, d.Why = now, true, waiting
	default:
		d.Why = waiting
		if wake.IsZero() || task.deadline.Before(wake) {
			wake = task.deadline
		}
		return d, look, wake
	}
	return d, false, time.Time{}
}

// confirm returns the slice versions that proxies have to reach and what is
// still missing, "" when every live proxy is there.
func (d Drain) confirm(task drainTask, routes Routes) (versions map[string]uint64, waiting string) {
	if !task.routed || len(routes.Services) == 0 {
		return nil, ""
	}
	versions = maps.Clone(d.Versions)
	if versions == nil {
		versions = map[string]uint64{}
	}
	var need uint64
	for _, service := range routes.Services {
		if versions[service] == 0 {
			versions[service] = withdrawn(service, task.restart, routes.Slices)
		}
		if versions[service] == 0 {
			return versions, fmt.Sprintf("waiting for an endpoint slice of Service %s to show the pod as leaving", service)
		}
		need = max(need, versions[service])
	}
	if task.restart {
		return versions, ""
	}
	var behind []string
	for _, proxy := range routes.Proxies {
		if proxy.Applied < need {
			behind = append(behind, proxy.Node)
		}
	}
	if len(behind) > 0 {
		slices.Sort(behind)
		return versions, fmt.Sprintf("waiting for the service proxy of %s to confirm version %d", strings.Join(behind, ", "), need)
	}
	return versions, ""
}

// withdrawn is the highest version of a Service's slices if they withdraw the pod, 0 if not.
func withdrawn(service string, restart bool, listed []Slice) uint64 {
	var version uint64
	for _, s := range listed {
		if s.Service == service && (s.Terminating || restart && !s.Ready) {
			version = max(version, s.Version)
		}
	}
	return version
}

// quiet says what keeps the connections from being done, "" when two looks in a
// row since the proxies' confirmation have found none busy.
func (d Drain) quiet(now time.Time, task drainTask, looks []Look) (waiting string, look bool, wake time.Time) {
	from := d.ConfirmedAt
	if task.restart && len(d.Versions) > 0 {
		from = from.Add(proxySettle)
	}
	if !task.sockets {
		if until := from.Add(unlookedIdle); task.routed && len(d.Versions) > 0 && now.Before(until) {
			return "waiting for connections to end", false, until
		}
		return "", false, time.Time{}
	}
	if now.Before(from) {
		return "waiting for service proxies to apply the change", false, from
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
		if busy := busyConnections(l.Sockets); busy > 0 {
			quietLooks = 0
			waiting = fmt.Sprintf("waiting for %d busy connection(s)", busy)
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
// request may be in flight on. Connections that the pod itself has opened to
// elsewhere are its own affair.
func busyConnections(sockets []Socket) int {
	listening := map[uint16]bool{}
	for _, s := range sockets {
		if s.State == SocketListen {
			listening[s.LocalPort] = true
		}
	}
	busy := 0
	for _, s := range sockets {
		if listening[s.LocalPort] && s.busy() {
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

// closing: the peer has not confirmed that it has everything that was sent.
func closing(sockets []Socket) bool {
	return slices.ContainsFunc(sockets, func(s Socket) bool { return s.State == SocketClosing })
}

// drainTimeout is how long the drain of a pod may take: its annotation, or the
// grace period less two seconds (less a half where it is short).
func drainTimeout(pod *corev1.Pod, grace time.Duration) time.Duration {
	timeout := max(grace-2*time.Second, grace/2)
	if set, err := time.ParseDuration(pod.Annotations[v1alpha1.AnnotationDrainTimeout]); err == nil && set >= 0 {
		timeout = set
	}
	return min(timeout, grace)
}

// drainOff: the pod has chosen to be stopped as Kubernetes does.
func drainOff(pod *corev1.Pod) bool { return pod.Annotations[v1alpha1.AnnotationDrain] == "off" }
