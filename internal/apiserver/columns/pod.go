package columns

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"windlass.dev/windlass/internal/condition"
)

var (
	podSpecDocs   = corev1.PodSpec{}.SwaggerDoc()
	podStatusDocs = corev1.PodStatus{}.SwaggerDoc()
)

var pods = table{
	columns: []metav1.TableColumnDefinition{
		nameColumn,
		text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
		text("Status", "The aggregate status of the containers in this pod."),
		text("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
		ageColumn,
		wide(text("IP", podStatusDocs["podIP"])),
		wide(text("Node", podSpecDocs["nodeName"])),
		wide(text("Nominated Node", podStatusDocs["nominatedNodeName"])),
		wide(text("Readiness Gates", podSpecDocs["readinessGates"])),
	},
	row: func(obj runtime.Object, now time.Time) metav1.TableRow {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return metav1.TableRow{}
		}
		return metav1.TableRow{Cells: podCells(pod, now), Conditions: podConditions(pod.Status.Phase)}
	},
}

// podConditions marks the row of a pod that has run to its end, so that a client may hide it.
func podConditions(phase corev1.PodPhase) []metav1.TableRowCondition {
	message := ""
	switch phase {
	case corev1.PodSucceeded:
		message = "The pod has completed successfully."
	case corev1.PodFailed:
		message = "The pod failed."
	default:
		return nil
	}
	return []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(phase), Message: message}}
}

func podCells(pod *corev1.Pod, now time.Time) []any {
	life := lifeOf(pod)
	address := pod.Status.PodIP
	if len(pod.Status.PodIPs) > 0 {
		address = pod.Status.PodIPs[0].IP
	}
	return []any{
		pod.Name,
		fmt.Sprintf("%d/%d", life.ready, life.containers),
		life.status,
		life.restartCell(now),
		age(&pod.ObjectMeta, now),
		or(address, none),
		or(pod.Spec.NodeName, none),
		or(pod.Status.NominatedNodeName, none),
		readinessGates(pod),
	}
}

func readinessGates(pod *corev1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return none
	}
	open := 0
	for _, gate := range pod.Spec.ReadinessGates {
		if condition.OfPod(pod, gate.ConditionType) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(pod.Spec.ReadinessGates))
}

// podLife sums up a pod's containers in the words of kubectl.
type podLife struct {
	status            string
	ready, containers int
	restarts          int
	lastRestart       time.Time
}

// lifeOf reads a pod as Kubernetes prints it: until its initialization is done the first
// unfinished init container tells its status, then the first container with a reason to
// wait or to have ended; a deletion comes before both.
func lifeOf(pod *corev1.Pod) podLife {
	life := podLife{status: or(pod.Status.Reason, string(pod.Status.Phase)), containers: len(pod.Spec.Containers)}
	if c := condition.Find(&pod.Status, corev1.PodScheduled); c != nil && c.Reason == corev1.PodReasonSchedulingGated {
		life.status = corev1.PodReasonSchedulingGated
	}
	sidecars := sidecarNames(pod)
	life.containers += len(sidecars)

	started := life
	if started.initContainers(pod, sidecars, false) && !condition.OfPod(pod, corev1.PodInitialized) {
		life = started
	} else {
		life.initContainers(pod, sidecars, true)
		life.mainContainers(pod)
	}

	if pod.DeletionTimestamp != nil {
		switch {
		case pod.Status.Reason == "NodeLost":
			life.status = "Unknown"
		case !condition.Ended(pod.Status.Phase):
			life.status = "Terminating"
		}
	}
	return life
}

// sidecarNames are the init containers that run beside the others until the end.
func sidecarNames(pod *corev1.Pod) map[string]bool {
	names := map[string]bool{}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			names[c.Name] = true
		}
	}
	return names
}

// initContainers counts init containers up to the first that has still to finish, and
// reports whether there is one. Restarts are counted of sidecars only, when asked so.
func (l *podLife) initContainers(pod *corev1.Pod, sidecars map[string]bool, sidecarRestartsOnly bool) bool {
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		sidecar := sidecars[c.Name]
		if sidecar || !sidecarRestartsOnly {
			l.countRestarts(c)
		}
		ended, waiting := c.State.Terminated, c.State.Waiting
		switch {
		case ended != nil && ended.ExitCode == 0:
			continue
		case sidecar && c.Started != nil && *c.Started:
			if c.Ready {
				l.ready++
			}
			continue
		case ended != nil:
			l.status = "Init:" + endReason(ended)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing":
			l.status = "Init:" + waiting.Reason
		default:
			l.status = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return true
	}
	return false
}

// mainContainers counts the containers proper. The first of them with a reason names it.
func (l *podLife) mainContainers(pod *corev1.Pod) {
	running := false
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &pod.Status.ContainerStatuses[i]
		l.countRestarts(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			l.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			l.status = endReason(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			l.ready++
		}
	}
	if l.status == "Completed" && running {
		l.status = "NotReady"
		if condition.OfPod(pod, corev1.PodReady) {
			l.status = "Running"
		}
	}
}

func (l *podLife) countRestarts(c *corev1.ContainerStatus) {
	l.restarts += int(c.RestartCount)
	if ended := c.LastTerminationState.Terminated; ended != nil && ended.FinishedAt.After(l.lastRestart) {
		l.lastRestart = ended.FinishedAt.Time
	}
}

// endReason is why a container ended, or how when nobody said why.
func endReason(ended *corev1.ContainerStateTerminated) string {
	switch {
	case ended.Reason != "":
		return ended.Reason
	case ended.Signal != 0:
		return fmt.Sprintf("Signal:%d", ended.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", ended.ExitCode)
}

func (l *podLife) restartCell(now time.Time) string {
	if l.restarts == 0 || l.lastRestart.IsZero() {
		return strconv.Itoa(l.restarts)
	}
	return fmt.Sprintf("%d (%s ago)", l.restarts, since(l.lastRestart, now))
}
