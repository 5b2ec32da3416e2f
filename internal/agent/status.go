package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubectl/pkg/util/qos"

	"windlass.dev/windlass/internal/condition"
)

// status is what the API should say of the pod. Fields and conditions that
// others write are kept.
func (l *life) status() corev1.PodStatus {
	status := *l.pod.Status.DeepCopy()
	status.ObservedGeneration = l.pod.Generation
	status.Phase = l.phase()
	switch v := l.seen.Verdict; {
	case l.over():
	case v != nil:
		status.Reason, status.Message = v.Reason, v.Message
	case status.Phase == corev1.PodFailed && l.expired() && !l.endedInTime():
		status.Reason, status.Message = reasonDeadline, messageDeadline
	}
	status.QOSClass = qos.GetPodQOS(l.pod)
	if status.StartTime == nil {
		status.StartTime = stamp(l.now)
	}
	status.HostIP, status.HostIPs = "", nil
	if ip := l.seen.Node.IP; ip.IsValid() {
		status.HostIP, status.HostIPs = ip.String(), []corev1.HostIP{{IP: ip.String()}}
	}
	switch {
	case l.pod.Spec.HostNetwork:
		status.PodIP = status.HostIP
	case l.seen.Network != nil && !l.seen.NetworkStale:
		status.PodIP = l.seen.Network.IP.String()
	}
	if status.PodIP != "" {
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	if !l.neverBegun(status.Phase) {
		status.InitContainerStatuses = l.containerStatuses(l.inits)
		status.ContainerStatuses = l.containerStatuses(l.mains)
		status.EphemeralContainerStatuses = l.containerStatuses(l.extras)
		shortenMessages(status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses)
	}
	l.conditions(&status)
	return status
}

// neverBegun: the pod failed before there was anything to tell of its containers.
func (l *life) neverBegun(phase corev1.PodPhase) bool {
	return phase == corev1.PodFailed && len(l.seen.Containers) == 0 && len(l.pod.Status.ContainerStatuses) == 0 && len(l.pod.Status.InitContainerStatuses) == 0
}

// phase follows the documented meaning of each phase; a phase that ends a pod's
// life is kept, and not told before its containers have ended.
func (l *life) phase() corev1.PodPhase {
	if l.over() {
		return l.pod.Status.Phase
	}
	phase := l.phaseByContainers()
	if len(l.running()) == 0 && (l.givenUp() || l.expired() && !l.ending() && !l.endedInTime()) {
		phase = corev1.PodFailed
	}
	if condition.Ended(phase) && l.inFlight(ActStart) { // what it starts runs, if only to be stopped
		return cmp.Or(l.pod.Status.Phase, corev1.PodPending)
	}
	return phase
}

// over: the API has been told that the pod has ended.
func (l *life) over() bool {
	return condition.Ended(l.pod.Status.Phase)
}

func (l *life) phaseByContainers() corev1.PodPhase {
	running := len(l.running()) > 0
	if !l.mainsBegun() {
		for _, u := range l.inits {
			if u.kind == initUnit && u.exited() && !u.completed() && !u.restarts() && !slices.ContainsFunc(l.inits, (*unit).running) {
				return corev1.PodFailed
			}
		}
		if !l.mainsEverBegun() {
			return corev1.PodPending
		}
	}
	failed, waiting := false, false
	for _, u := range l.mains {
		switch {
		case u.current == nil, u.previous == nil && u.running() && l.waiting(u) != nil:
			waiting = true
		case u.restarts() && !l.stopping(), u.running():
			running = true
		case !u.completed():
			failed = true
		}
	}
	switch {
	case waiting && !l.stopping():
		return corev1.PodPending
	case running:
		return corev1.PodRunning
	case failed:
		return corev1.PodFailed
	case waiting:
		return corev1.PodPending
	default:
		return corev1.PodSucceeded
	}
}

func (l *life) containerStatuses(units []*unit) []corev1.ContainerStatus {
	var statuses []corev1.ContainerStatus
	for _, u := range units {
		started, ready := l.started(u), l.ready(u)
		if u.kind == initUnit {
			started, ready = false, u.completed()
		}
		if u.kind == ephemeralUnit {
			ready = false
		}
		status := corev1.ContainerStatus{
			Name:                 u.spec.Name,
			State:                l.state(u),
			LastTerminationState: l.lastState(u),
			Ready:                ready,
			Started:              &started,
			Image:                u.spec.Image,
		}
		if u.kind == ephemeralUnit {
			status.Started = nil // as Kubernetes has it: nobody asks
		}
		if c := u.current; c != nil {
			status.RestartCount = int32(c.Attempt)
			status.ImageID = c.ImageID
			if c.Image != "" {
				status.Image = c.Image
			}
			if c.ID != "" {
				status.ContainerID = runtimeScheme + c.ID
			}
			if c.User != nil {
				status.User = &corev1.ContainerUser{Linux: c.User}
			}
			status.AllocatedResources, status.Resources = l.grantedTo(u)
			status.VolumeMounts = l.volumeMountStatuses(u)
			if u.spec.Lifecycle != nil {
				status.StopSignal = u.spec.Lifecycle.StopSignal
			}
		}
		statuses = append(statuses, status)
	}
	return statuses
}

// grantedTo is what a container that has been started was allotted, and what it is
// held to.
func (l *life) grantedTo(u *unit) (corev1.ResourceList, *corev1.ResourceRequirements) {
	allotted := l.allotted(u)
	granted := allotted
	if u.current.Granted != nil {
		granted = *u.current.Granted
	}
	if len(granted.Requests)+len(granted.Limits)+len(allotted.Requests) == 0 {
		return nil, nil
	}
	return allotted.Requests, &corev1.ResourceRequirements{Requests: granted.Requests, Limits: granted.Limits}
}

// state is a container's present state. A container that ended and will be
// started again is waiting if something holds it up, else still terminated.
func (l *life) state(u *unit) corev1.ContainerState {
	if waiting := l.waiting(u); waiting != nil {
		return corev1.ContainerState{Waiting: waiting}
	}
	if u.running() {
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: *stamp(u.current.StartedAt)}}
	}
	return corev1.ContainerState{Terminated: terminated(u.current, u.reason, u.message)}
}

// lastState is how the attempt before the present one ended.
func (l *life) lastState(u *unit) corev1.ContainerState {
	last, reason, message := u.previous, "", ""
	if u.exited() && l.waiting(u) != nil {
		last, reason, message = u.current, u.reason, u.message
	}
	if last == nil || last.Phase != ContainerExited {
		return corev1.ContainerState{}
	}
	return corev1.ContainerState{Terminated: terminated(last, reason, message)}
}

func terminated(c *Container, reason, message string) *corev1.ContainerStateTerminated {
	ended := &corev1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Reason: reason, Message: cmp.Or(message, c.Message),
		StartedAt: *stamp(c.StartedAt), FinishedAt: *stamp(c.FinishedAt),
	}
	if c.ID != "" {
		ended.ContainerID = runtimeScheme + c.ID
	}
	switch {
	case c.StartError != "":
		ended.Reason, ended.Message = ReasonStartError, c.StartError
	case reason != "":
	case c.OOMKilled:
		ended.Reason = ReasonOOMKilled
	case c.ExitCode == 0:
		ended.Reason = ReasonCompleted
	default:
		ended.Reason = ReasonError
	}
	return ended
}

// waiting says why a container does not run, hook included, although it has not
// ended for good; nil if it runs, has ended for good, or is about to be started
// again at once.
func (l *life) waiting(u *unit) *corev1.ContainerStateWaiting {
	hook, failed := l.hookFailed(u)
	switch {
	case failed && !l.stopping():
		return &corev1.ContainerStateWaiting{Reason: ReasonPostStartHook, Message: hook.Message}
	case l.beginning(u):
		return &corev1.ContainerStateWaiting{Reason: l.creating(u)}
	case u.running() || u.exited() && (!u.restarts() || l.stopping()):
		return nil
	}
	if u.exited() {
		if at := u.restartAt(); l.now.Before(at) {
			return &corev1.ContainerStateWaiting{Reason: ReasonCrashLoopBackOff, Message: fmt.Sprintf(
				"back-off %s restarting failed container=%s pod=%s", restartDelay(u.current, u.previous), u.spec.Name, l.podTitle())}
		}
	}
	if image, failure, ok := l.imageFailure(u); ok {
		return l.imageWaiting(image, failure)
	}
	if failure, ok := l.failure(ActStart, u.spec.Name); ok {
		return &corev1.ContainerStateWaiting{Reason: failure.Reason, Message: failure.Message}
	}
	switch {
	case u.exited() && u.current.StartError != "":
		return &corev1.ContainerStateWaiting{Reason: ReasonRunError, Message: u.current.StartError}
	case u.exited() && !u.again:
		return nil
	}
	return &corev1.ContainerStateWaiting{Reason: l.creating(u), Message: l.obstacle()}
}

// creating is the reason of a container that has nothing against it.
func (l *life) creating(u *unit) string {
	if len(l.inits) > 0 && (u.kind != mainUnit || !l.initialized()) {
		return ReasonPodInitializing
	}
	return ReasonContainerCreating
}

// obstacle is what keeps all containers of the pod from being started, if it
// has been tried and has failed.
func (l *life) obstacle() string {
	for _, kind := range []ActKind{ActSetupNetwork, ActPrepareVolumes} {
		if failure, ok := l.failure(kind, ""); ok {
			return failure.Message
		}
	}
	return ""
}

func (l *life) imageWaiting(image string, failure Failure) *corev1.ContainerStateWaiting {
	shown := failure.At.Add(imagePullShown)
	switch {
	case failure.Reason == ReasonInvalidImageName || failure.Reason == ReasonImageNeverPull || failure.Reason == ReasonImageInspect:
	case l.now.Before(shown) && failure.Count == 1:
		l.wake(shown)
	default:
		return &corev1.ContainerStateWaiting{Reason: ReasonImagePullBackOff,
			Message: fmt.Sprintf("Back-off pulling image %q: %s: %s", image, failure.Reason, failure.Message)}
	}
	return &corev1.ContainerStateWaiting{Reason: failure.Reason, Message: failure.Message}
}

// initialized: every init container has done its part.
func (l *life) initialized() bool {
	if l.mainsBegun() {
		return true
	}
	return len(l.uninitialized()) == 0
}

func (l *life) uninitialized() []string {
	var names []string
	for _, u := range l.inits {
		if u.kind == initUnit && !u.completed() || u.kind == sidecarUnit && !l.started(u) {
			names = append(names, u.spec.Name)
		}
	}
	return names
}

// conditions sets the conditions that the agent owns.
func (l *life) conditions(status *corev1.PodStatus) {
	done := status.Phase == corev1.PodSucceeded
	over := done || status.Phase == corev1.PodFailed

	network := corev1.PodCondition{Type: corev1.PodReadyToStartContainers}
	network.Status = truth(!over && (l.pod.Spec.HostNetwork || l.seen.Network != nil && !l.seen.NetworkStale))
	l.condition(status, network)

	initialized := corev1.PodCondition{Type: corev1.PodInitialized, Status: truth(l.initialized())}
	switch {
	case done:
		initialized.Status, initialized.Reason = corev1.ConditionTrue, "PodCompleted"
	case initialized.Status == corev1.ConditionFalse:
		initialized.Reason = "ContainersNotInitialized"
		initialized.Message = fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(l.uninitialized(), " "))
	}
	l.condition(status, initialized)

	containers := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}
	if unready := l.unready(); over || l.givenUp() || len(unready) > 0 {
		containers.Status, containers.Reason = corev1.ConditionFalse, "ContainersNotReady"
		containers.Message = fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	}
	if over || l.givenUp() {
		containers.Reason, containers.Message = map[bool]string{true: "PodCompleted", false: "PodFailed"}[done], ""
	}
	l.condition(status, containers)

	ready := containers
	ready.Type = corev1.PodReady
	if missing := l.missingGates(); ready.Status == corev1.ConditionTrue && missing != "" {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", missing
	}
	l.condition(status, ready)

	l.resizeConditions(status)
	l.restartAllCondition(status)
	if v := l.seen.Verdict; v != nil && v.Evicted {
		l.condition(status, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: v.Message})
	}
}

// unready names the containers that keep the pod from being ready.
func (l *life) unready() []string {
	var names []string
	for _, u := range l.all() {
		if u.kind != initUnit && u.kind != ephemeralUnit && !l.ready(u) {
			names = append(names, u.spec.Name)
		}
	}
	return names
}

func (l *life) missingGates() string {
	var missing []string
	for _, gate := range l.pod.Spec.ReadinessGates {
		i := slices.IndexFunc(l.pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == gate.ConditionType })
		switch {
		case i < 0:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case l.pod.Status.Conditions[i].Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, l.pod.Status.Conditions[i].Status))
		}
	}
	return strings.Join(missing, ", ")
}

// condition puts a condition into status; its transition time changes only with
// its status.
func (l *life) condition(status *corev1.PodStatus, c corev1.PodCondition) {
	c.ObservedGeneration = l.pod.Generation
	c.LastTransitionTime = *stamp(l.now)
	old := condition.Find(status, c.Type)
	if old == nil {
		status.Conditions = append(status.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	c.LastProbeTime = old.LastProbeTime
	*old = c
}

func truth(yes bool) corev1.ConditionStatus {
	if yes {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// stamp is a time as the API keeps it.
func stamp(t time.Time) *metav1.Time {
	if t.IsZero() {
		return &metav1.Time{}
	}
	return &metav1.Time{Time: t.Truncate(time.Second)}
}

// urgent: the change from one status to another is worth a write of its own at
// once. Others wait a little, for the start of a container to be told in one.
func urgent(from, to *corev1.PodStatus) bool {
	if from.Phase != to.Phase && to.Phase != corev1.PodRunning && to.Phase != corev1.PodPending {
		return true
	}
	if readiness(from) != readiness(to) {
		return true
	}
	return slices.ContainsFunc(slices.Concat(to.ContainerStatuses, to.InitContainerStatuses, to.EphemeralContainerStatuses), func(now corev1.ContainerStatus) bool {
		var before corev1.ContainerStatus
		for _, s := range slices.Concat(from.ContainerStatuses, from.InitContainerStatuses, from.EphemeralContainerStatuses) {
			if s.Name == now.Name {
				before = s
			}
		}
		if w := now.State.Waiting; w != nil && w.Reason != ReasonContainerCreating && w.Reason != ReasonPodInitializing {
			return before.State.Waiting == nil || before.State.Waiting.Reason != w.Reason
		}
		return before.Ready != now.Ready || now.State.Terminated != nil && before.State.Terminated == nil
	})
}

func readiness(status *corev1.PodStatus) corev1.ConditionStatus {
	if c := condition.Find(status, corev1.PodReady); c != nil {
		return c.Status
	}
	return corev1.ConditionFalse
}
