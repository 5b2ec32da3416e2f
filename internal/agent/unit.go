package agent

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
)

// unitKind is the part that a container plays in its pod.
type unitKind int

const (
	mainUnit      unitKind = iota
	initUnit               // runs to completion before those after it start
	sidecarUnit            // an init container with restartPolicy Always
	ephemeralUnit          // added to the running pod to look into it; runs once, and decides nothing of the pod
)

// unit is one container of the pod with everything known of it.
type unit struct {
	kind     unitKind
	spec     *corev1.Container
	restart  restart
	current  *Container // the last attempt, nil before the first
	previous *Container // the attempt before it
	again    bool       // current is ended to be started anew, whatever the policy says
	reason   string     // why current ended, where its record does not say
	message  string
}

// units returns the pod's init containers, its main containers and its ephemeral
// ones, each in the order of the spec.
func (l *life) units() (inits, mains, extras []*unit) {
	for i := range l.pod.Spec.InitContainers {
		spec := &l.pod.Spec.InitContainers[i]
		u := &unit{kind: initUnit, spec: spec, restart: initRestart(l.pod.Spec.RestartPolicy).orOwn(spec)}
		if u.restart.policy == corev1.RestartPolicyAlways {
			u.kind = sidecarUnit
		}
		inits = append(inits, l.recall(u, l.pod.Status.InitContainerStatuses))
	}
	for i := range l.pod.Spec.Containers {
		spec := &l.pod.Spec.Containers[i]
		u := &unit{kind: mainUnit, spec: spec, restart: restart{policy: l.pod.Spec.RestartPolicy}.orOwn(spec)}
		mains = append(mains, l.recall(u, l.pod.Status.ContainerStatuses))
	}
	for i := range l.pod.Spec.EphemeralContainers {
		u := &unit{kind: ephemeralUnit, spec: asContainer(&l.pod.Spec.EphemeralContainers[i]), restart: restart{policy: corev1.RestartPolicyNever}}
		extras = append(extras, l.recall(u, l.pod.Status.EphemeralContainerStatuses))
	}
	return inits, mains, extras
}

// asContainer gives an ephemeral container as the container that it is: the two
// types are the same, field by field.
func asContainer(e *corev1.EphemeralContainer) *corev1.Container {
	return (*corev1.Container)(&e.EphemeralContainerCommon)
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
	if u.current != nil {
		u.again = l.seen.Memory.Again[u.current.ID]
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
			Phase: ContainerExited, ExitCode: exitKilled, StartedAt: status.State.Running.StartedAt.Time,
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
		StartError: startError, Message: ended.Message, ID: id, Name: status.Name, Attempt: attempt, ImageID: status.ImageID, Image: status.Image,
		Phase: ContainerExited, ExitCode: int(ended.ExitCode), OOMKilled: ended.Reason == ReasonOOMKilled,
		StartedAt: ended.StartedAt.Time, FinishedAt: ended.FinishedAt.Time,
	}
}

func (u *unit) running() bool { return u.current != nil && u.current.Phase == ContainerRunning }
func (u *unit) exited() bool  { return u.current != nil && u.current.Phase == ContainerExited }

// completed: the container has ended as it should, and does not begin anew.
func (u *unit) completed() bool { return u.exited() && u.current.ExitCode == 0 && !u.again }

// triedInThisBoot: the container was started since the machine was.
func (u *unit) triedInThisBoot() bool { return u.current != nil && !u.current.EarlierBoot }

// restarts: the container has ended and its policy wants it started again.
func (u *unit) restarts() bool { return u.exited() && (u.again || u.restartsAfter(u.current.ExitCode)) }

// restartsAfter: its policy wants it started again after an end with this code.
func (u *unit) restartsAfter(exitCode int) bool { return u.restart.wants(exitCode) }

// nextAttempt is the number of the attempt that would be started next.
func (u *unit) nextAttempt() int {
	if u.current == nil {
		return 0
	}
	return u.current.Attempt + 1
}
