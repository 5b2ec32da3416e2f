package agent

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// unitKind is the part that a container plays in its pod.
type unitKind int

const (
	mainUnit    unitKind = iota
	initUnit             // runs to completion before those after it start
	sidecarUnit          // an init container with restartPolicy Always
)

// unit is one container of the pod with everything known of it.
type unit struct {
	kind     unitKind
	spec     *corev1.Container
	restart  corev1.RestartPolicy
	current  *Container // the last attempt, nil before the first
	previous *Container // the attempt before it
	reason   string     // why current ended, where its record does not say
	message  string
}

// units returns the pod's init containers and its main containers, in the order
// of the spec.
func (l *life) units() (inits, mains []*unit) {
	for i := range l.pod.Spec.InitContainers {
		spec := &l.pod.Spec.InitContainers[i]
		u := &unit{kind: initUnit, spec: spec, restart: initRestart(l.pod.Spec.RestartPolicy)}
		if spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			u.kind, u.restart = sidecarUnit, corev1.RestartPolicyAlways
		}
		inits = append(inits, l.recall(u, l.pod.Status.InitContainerStatuses))
	}
	for i := range l.pod.Spec.Containers {
		u := &unit{kind: mainUnit, spec: &l.pod.Spec.Containers[i], restart: l.pod.Spec.RestartPolicy}
		mains = append(mains, l.recall(u, l.pod.Status.ContainerStatuses))
	}
	return inits, mains
}

// initRestart is the restart policy of a pod's plain init containers.
func initRestart(policy corev1.RestartPolicy) corev1.RestartPolicy {
	if policy == corev1.RestartPolicyNever {
		return corev1.RestartPolicyNever
	}
	return corev1.RestartPolicyOnFailure
}

// recall finds the records of a unit: the runtime's, and where the runtime has
// none, what the pod's status tells of an attempt that has been.
func (l *life) recall(u *unit, statuses []corev1.ContainerStatus) *unit {
	for i := range l.seen.Containers {
		c := &l.seen.Containers[i]
		switch {
		case c.Name != u.spec.Name:
		case u.current == nil || c.Attempt > u.current.Attempt:
			u.previous, u.current = u.current, c
		case u.previous == nil || c.Attempt > u.previous.Attempt:
			u.previous = c
		}
	}
	for i := range statuses {
		if statuses[i].Name == u.spec.Name {
			u.recallStatus(&statuses[i])
		}
	}
	return u
}

func (u *unit) recallStatus(status *corev1.ContainerStatus) {
	last := cmp.Or(status.State.Terminated, status.LastTerminationState.Terminated)
	if u.current != nil && int(status.RestartCount) > u.current.Attempt && last != nil && last.Reason == ReasonStartError {
		u.previous, u.current = u.current, fromTerminated(int(status.RestartCount), status, last)
		return
	}
	if u.previous == nil && status.LastTerminationState.Terminated != nil && u.current != nil && u.current.Attempt > 0 {
		u.previous = fromTerminated(u.current.Attempt-1, status, status.LastTerminationState.Terminated)
	}
	if u.current != nil {
		if ended := status.State.Terminated; ended != nil && ended.ContainerID == runtimeScheme+u.current.ID {
			u.message = ended.Message
		}
		return
	}
	ended := status.State.Terminated
	switch {
	case ended != nil:
		u.current = fromTerminated(int(status.RestartCount), status, ended)
		u.reason, u.message = ended.Reason, ended.Message
	case status.State.Running != nil:
		id, _ := containerID(status.ContainerID)
		u.current = &Container{
			ID: id, Name: status.Name, Attempt: int(status.RestartCount), ImageID: status.ImageID, Image: status.Image,
			Phase: ContainerExited, ExitCode: 137, StartedAt: status.State.Running.StartedAt.Time,
		}
		u.reason = ReasonStatusUnknown
		u.message = "The container could not be located when the agent looked for it"
	case status.LastTerminationState.Terminated != nil: // it was in back-off
		u.current = fromTerminated(int(status.RestartCount), status, status.LastTerminationState.Terminated)
		u.reason = status.LastTerminationState.Terminated.Reason
	}
}

func fromTerminated(attempt int, status *corev1.ContainerStatus, ended *corev1.ContainerStateTerminated) *Container {
	id, _ := containerID(ended.ContainerID)
	startError := ""
	if ended.Reason == ReasonStartError {
		startError = cmp.Or(ended.Message, "it could not be started")
	}
	return &Container{
		StartError: startError, ID: id, Name: status.Name, Attempt: attempt, ImageID: status.ImageID, Image: status.Image,
		Phase: ContainerExited, ExitCode: int(ended.ExitCode), OOMKilled: ended.Reason == ReasonOOMKilled,
		StartedAt: ended.StartedAt.Time, FinishedAt: ended.FinishedAt.Time,
	}
}

func (u *unit) running() bool { return u.current != nil && u.current.Phase == ContainerRunning }
func (u *unit) exited() bool  { return u.current != nil && u.current.Phase == ContainerExited }

// completed: the container has ended as it should.
func (u *unit) completed() bool { return u.exited() && u.current.ExitCode == 0 }

// restarts: the container has ended and its policy wants it started again.
func (u *unit) restarts() bool {
	return u.exited() && (u.restart == corev1.RestartPolicyAlways ||
		u.restart == corev1.RestartPolicyOnFailure && u.current.ExitCode != 0)
}

// nextAttempt is the number of the attempt that would be started next.
func (u *unit) nextAttempt() int {
	if u.current == nil {
		return 0
	}
	return u.current.Attempt + 1
}

// The back-off between the end of a container and its next start, as Kubernetes
// documents it: none for the first restart, then 10 s, doubled each time up to
// five minutes, and forgotten once the container has run for ten minutes.
var restartLadder = []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second}

const restartReset = 10 * time.Minute

// restartDelay is the wait between the end of current and the next start. It
// follows from the two last records alone (the wait before current was started
// tells the rung of the ladder), so it needs no counter that could be lost.
func restartDelay(current, previous *Container) time.Duration {
	if current.Attempt == 0 || previous == nil || current.FinishedAt.Sub(current.StartedAt) >= restartReset {
		return 0
	}
	const slack = 1500 * time.Millisecond // the API keeps whole seconds
	waited := current.StartedAt.Sub(previous.FinishedAt) + slack
	for rung := len(restartLadder) - 1; rung >= 0; rung-- {
		if waited >= restartLadder[rung] {
			return restartLadder[min(rung+1, len(restartLadder)-1)]
		}
	}
	return restartLadder[1]
}

// restartAt is when the container, having ended, may start again.
func (u *unit) restartAt() time.Time {
	return u.current.FinishedAt.Add(restartDelay(u.current, u.previous))
}
