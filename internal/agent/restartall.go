package agent

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// A container whose end matches a rule with the action RestartAllContainers has the
// whole pod begin anew in its place: all its containers are stopped, without their
// preStop hooks, and then started in their order, init containers included. Address,
// volumes and node stay
// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-all-containers).

// all: after an end with this code all containers are restarted.
func (r restart) all(exitCode int) bool {
	rule := r.rule(exitCode)
	return rule != nil && rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers
}

// restartsAll returns the container whose end has all restarted, until they are.
func (l *life) restartsAll() *unit {
	if l.stopping() || l.mainsDone() {
		return nil
	}
	for _, u := range slices.Concat(l.inits, l.mains) {
		if u.exited() && !u.again && u.restart.all(u.current.ExitCode) {
			return u
		}
	}
	return nil
}

// beginAnew has all containers start again once none runs and the back-off of the one
// that has caused it is over, and reports whether that is so.
func (l *life) beginAnew(cause *unit) bool {
	if len(l.running()) > 0 || l.starting() {
		l.why("waiting for all containers to end")
		return false
	}
	if at := cause.restartAt(); l.now.Before(at) {
		l.wake(at)
		l.why("container %s waits for its back-off", cause.spec.Name)
		return false
	}
	for _, u := range slices.Concat(l.inits, l.mains) {
		if u.exited() {
			u.again, l.d.Memory.Again[u.current.ID] = true, true
		}
	}
	l.d.Memory.Anew = true
	return true
}

// restartAllSentence is that of a container which another's end has restarted.
func restartAllSentence(u, cause *unit) sentence {
	return sentence{
		why:   fmt.Sprintf("%s ended with exit code %d, for which all containers are restarted", cause.spec.Name, cause.current.ExitCode),
		event: fmt.Sprintf("Container %s will be restarted with all others of the pod", u.spec.Name),
		at:    cause.current.FinishedAt, drain: true,
	}
}

// mayRestartAll: some container has a rule that has all restarted.
func mayRestartAll(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

// restartAllCondition tells whether all containers are being stopped to be restarted.
func (l *life) restartAllCondition(status *corev1.PodStatus) {
	if mayRestartAll(l.pod) {
		l.condition(status, corev1.PodCondition{Type: corev1.AllContainersRestarting, Status: truth(l.restartsAll() != nil)})
	}
}
