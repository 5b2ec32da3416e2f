// Package agent lives the life of a node's pods.
//
// # How it works
//
// Each pod has a worker. The worker collects what is (Observed: the runtime's
// records, the network, probes, sockets, who routes to the pod), has Step decide,
// writes the status that Step returned, begins the acts that it asked for, and
// waits until something changes or WakeAt has come. Step is pure. Acts run beside
// the worker and may fail; what they find out goes into the next Observed.
//
// Nothing that has to last is kept in memory. The runtime's records, the network's
// and the pod's status in the API say all that a restarted agent needs: container
// IDs follow from pod, name and attempt, so no attempt starts twice; the back-off
// of a restart follows from the times of the last two records; a readiness that
// the status tells is believed until a probe says otherwise. When things happened
// (v1alpha1.PodMoments) is in an annotation, written along with the status.
//
// # A pod
//
//	          network, volumes            ports listen or
//	          and image are there         probe succeeds
//	Pending ──────────────────▶ Running ─────────────────▶ Ready
//	                               │  ▲                      │
//	            exit or failed     │  │ back-off over        │ deleted
//	            liveness probe     ▼  │                      ▼
//	                             Waiting                  Draining
//	                                                         │ drained, or its deadline
//	                                                         ▼
//	gone ◀── API told ◀── taken away ◀── Lingering ◀──── Stopping (preStop,
//	                      (records,      (peers have         signal, SIGKILL)
//	                      network,       all that
//	                      directory)     was sent)
//
// Ephemeral containers run beside all this: they start when they are added and are
// stopped with the others.
//
// A pod that has finished by itself (restartPolicy OnFailure or Never) gives back
// its network and keeps its records and logs until it is deleted. A pod that the
// API does not have any more is killed and taken away at once.
//
// # The drain
//
// No container of a deleted pod is told to stop before nobody sends it requests
// and those in flight are answered (Drain, which is pure too):
//
//	┌───────────────┐  each Service's slice  ┌─────────────┐  every live node's proxy
//	│ for endpoints │ ─────────────────────▶ │ for proxies │ ────────────────────────┐
//	└───────────────┘  shows that it leaves  └─────────────┘  has that version       │
//	                                                                                 ▼
//	┌──────┐  two looks in a row find no connection busy                ┌─────────────────┐
//	│ done │ ◀───────────────────────────────────────────────────────── │ for connections │
//	└──────┘                                                            └─────────────────┘
//
// From each of these the drain's deadline leads to done as well, with an Event
// that says what it was waiting for. A proxy publishes its version while it sees a
// terminating endpoint; where there is none, the agent asks for it (ActAwait). A
// connection is busy if it is being made, holds bytes that are unread or
// unacknowledged, has never been answered, or has last received rather than sent;
// see Socket. A container that fails its liveness probe is drained likewise: its
// pod is not ready, and stays.
//
// # The edges
//
// Runtime, Images and Network are declared here and implemented by others;
// hollow has a node in memory. Subpackages: environment (variables and the
// downward API), volume, probe (how a container is asked), podlog (its log).
package agent
