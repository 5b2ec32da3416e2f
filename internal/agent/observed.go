package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
)

// Observed is what is on this node for one pod, beside the pod as the API has it.
type Observed struct {
	Node NodeAddress

	// Gone: the API no longer has the pod. Nothing of it may stay.
	Gone bool

	// Since is when this agent took the pod over. It could do nothing about what had
	// happened before.
	Since time.Time

	// DeletionSeen is when this agent first saw the pod's present deletionTimestamp.
	DeletionSeen time.Time

	Containers []Container     // records of the last attempts, those removed included
	Removed    map[string]bool // IDs of the containers that the runtime no longer has

	Network      *PodNetwork
	NetworkStale bool // known from disk only: set it up again before the first start
	Volumes      bool // prepared since the agent started

	VolumeChanges int       // of what the volumes are made of, since the agent started
	VolumesAt     int       // VolumeChanges when the volumes were last up to date
	VolumesDue    time.Time // when a token in them has to be renewed; zero is never

	Images       map[string]FoundImage   // by container name
	ImageChecked map[string]time.Time    // by container name: when an image that could not be had was looked for again
	Probes       map[ProbeKey]ProbeState // of containers that run
	Looks        []Look                  // the last two, oldest first
	Stops        map[string]StopProgress // by container ID
	PostStarts   map[string]PostStart    // of hooks that have ended, by container ID
	Routes       Routes                  // who may send the pod traffic; read while it ends or restarts

	Allotment Allotment // of CPU and memory

	Awaited uint64 // the resourceVersion that the proxies have been asked for

	Failures map[string]Failure // by Act.Key
	InFlight map[string]bool    // by Act.Key

	Verdict *Verdict // by which the agent itself has given the pod up

	Spare       bool // of a pod that had finished when the node was short of disk: it keeps nothing on it
	VolumesGone bool // of a pod that has finished
	CleanedUp   bool // the pod's directory and logs are gone
	Deleted     bool // the API has accepted the final deletion

	Memory Memory // what the last Decision said to remember
}

// NodeAddress is who this node is.
type NodeAddress struct {
	Name string
	IP   netip.Addr
}

// FoundImage is the image for one attempt of one container.
type FoundImage struct {
	Attempt int
	Image   *Image
}

// Look is one look at the sockets in a pod's network namespace.
type Look struct {
	At      time.Time // when it began
	Sockets []Socket
}

// StopProgress is how far the stopping of a container has come.
type StopProgress struct {
	PreStopDone bool
	SignalledAt time.Time // the stop signal
	KilledAt    time.Time // SIGKILL, the last time
}

// Memory is what Step has found out and needs the next time. An agent that
// starts anew begins with what the pod's status tells (see Recall).
type Memory struct {
	Listening map[string]bool   // container IDs whose declared ports have all listened
	Told      map[string]string // container name to the back-off that an Event has told
	Again     map[string]bool   // container IDs that are ended to be started anew, whatever their policy says
	Anew      bool              // the whole pod begins anew: no main container has been started since
	Drain     Drain
	Resizing  Resizing
	ExpiredAt time.Time // when the pod was first seen to have outlived its activeDeadlineSeconds
	EndedAt   time.Time // when what still ran of a pod that has finished was first to be stopped
	Moments   v1alpha1.PodMoments
}

// Recall makes the first Observed of a pod from what an agent that has just
// started finds: the runtime's records, the network's, and the pod's status.
// What the status says of a container that still runs is believed until a probe
// says otherwise, so a restart of the agent does not take a pod out of service.
func Recall(now time.Time, pod *corev1.Pod, containers []Container, network *PodNetwork) Observed {
	seen := Observed{
		Since:        now,
		Containers:   slices.Clone(containers),
		Removed:      map[string]bool{},
		Network:      network,
		Images:       map[string]FoundImage{},
		ImageChecked: map[string]time.Time{},
		Probes:       map[ProbeKey]ProbeState{},
		Stops:        map[string]StopProgress{},
		PostStarts:   map[string]PostStart{},
		Failures:     map[string]Failure{},
		InFlight:     map[string]bool{},
		Memory:       Memory{Listening: map[string]bool{}, Told: map[string]string{}, Again: recallAgain(pod, containers)},
	}
	if pod.DeletionTimestamp != nil {
		seen.DeletionSeen = now
	}
	if pod.Status.Reason == ReasonEvicted && !condition.Ended(pod.Status.Phase) {
		seen.Verdict = &Verdict{Reason: ReasonEvicted, Message: pod.Status.Message, Evicted: true, Grace: evictionGrace}
	}
	seen.NetworkStale = network != nil && !slices.ContainsFunc(containers, func(c Container) bool { return c.Phase == ContainerRunning })
	seen.Memory.Anew = slices.ContainsFunc(containers, func(c Container) bool {
		return seen.Memory.Again[c.ID] && slices.ContainsFunc(pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
	})
	recallGrants(pod, seen.Containers)
	seen.Allotment = recallAllotment(pod, seen.Containers)
	seen.Memory.Resizing.Started = seen.Allotment.Generation
	if c := condition.Find(&pod.Status, corev1.PodResizePending); c != nil {
		seen.Memory.Resizing.Refused = Refusal{c.Reason, c.Message}
	}
	for _, status := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		id, ok := containerID(status.ContainerID)
		if !ok || status.State.Running == nil {
			continue
		}
		if status.Started != nil && *status.Started {
			seen.PostStarts[id] = PostStart{}
			seen.Probes[ProbeKey{id, StartupProbe}] = ProbeState{OK: true, Ever: true}
		}
		if status.Ready {
			seen.Probes[ProbeKey{id, ReadinessProbe}] = ProbeState{OK: true, Ever: true}
			seen.Memory.Listening[id] = true
		}
	}
	return seen
}

// recallAgain finds the containers that have ended to be started anew: the status says
// that they wait for nothing.
func recallAgain(pod *corev1.Pod, containers []Container) map[string]bool {
	again := map[string]bool{}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		last, _ := lastTwo(containers, status.Name)
		ended, waiting := status.LastTerminationState.Terminated, status.State.Waiting
		if last == nil || last.Phase != ContainerExited || ended == nil || ended.ContainerID != runtimeScheme+last.ID || waiting == nil {
			continue
		}
		if waiting.Reason == ReasonContainerCreating || waiting.Reason == ReasonPodInitializing {
			again[last.ID] = true
		}
	}
	return again
}

// Record takes in what the runtime says of a container. A container that has
// been seen to end does not come back to life by an older report.
func (seen *Observed) Record(c Container) {
	i := slices.IndexFunc(seen.Containers, func(known Container) bool { return known.ID == c.ID })
	switch {
	case i < 0:
		seen.Containers = append(seen.Containers, c)
	case seen.Containers[i].Phase == ContainerRunning:
		seen.Containers[i] = c
	}
}

// Fail takes in that an act has failed and returns what is remembered of that. A
// container that the runtime could not start has had its attempt, as it has in
// Kubernetes: it ended with exit code 128, and waits as one that crashed does.
func (seen *Observed) Fail(act Act, reason, message string, at time.Time) Failure {
	key := act.Key()
	failure := Failure{Reason: reason, Message: message, Count: seen.Failures[key].Count + 1, At: at}
	seen.Failures[key] = failure
	if act.Kind != ActStart || reason != ReasonRunError {
		return failure
	}
	seen.Containers = slices.DeleteFunc(seen.Containers, func(c Container) bool {
		return c.Name == act.Container && c.StartError != "" && c.Attempt < act.Attempt-1
	})
	imageID := ""
	if image := seen.Images[act.Container].Image; image != nil {
		imageID = image.ID
	}
	seen.Record(Container{
		ID: act.ID, ImageID: imageID, Name: act.Container, Attempt: act.Attempt, StartError: message,
		Phase: ContainerExited, ExitCode: exitStartError, StartedAt: at, FinishedAt: at,
	})
	seen.Removed[act.ID] = true
	return failure
}

// Exit codes: the one that Kubernetes gives a container which could not be
// started, and those of a process that ended by SIGKILL and by SIGTERM.
const (
	exitStartError = 128
	exitKilled     = 128 + int(syscall.SIGKILL)
	exitTerminated = 128 + int(syscall.SIGTERM)
)

// ContainerID is the ID of one attempt at a container of a pod. It follows from
// what it names, so that an attempt cannot be started twice under two IDs.
func ContainerID(podUID, container string, attempt int) string {
	sum := sha256.Sum256([]byte(podUID + "/" + container + "/" + strconv.Itoa(attempt)))
	return hex.EncodeToString(sum[:16])
}

// runtimeScheme is what container IDs begin with in a pod's status.
const runtimeScheme = "windlass://"

func containerID(fromStatus string) (string, bool) {
	if len(fromStatus) <= len(runtimeScheme) || fromStatus[:len(runtimeScheme)] != runtimeScheme {
		return "", false
	}
	return fromStatus[len(runtimeScheme):], true
}
