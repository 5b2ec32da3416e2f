package agent

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// restart is when a container is started again after it has ended.
type restart struct {
	policy corev1.RestartPolicy
	rules  []corev1.ContainerRestartRule // that go before the policy
}

// initRestart is that of a pod's plain init containers.
func initRestart(policy corev1.RestartPolicy) restart {
	if policy == corev1.RestartPolicyNever {
		return restart{policy: corev1.RestartPolicyNever}
	}
	return restart{policy: corev1.RestartPolicyOnFailure}
}

// orOwn returns a container's own policy and rules, if it has one.
func (r restart) orOwn(c *corev1.Container) restart {
	if c.RestartPolicy == nil {
		return r
	}
	return restart{policy: corev1.RestartPolicy(*c.RestartPolicy), rules: c.RestartPolicyRules}
}

// rule is the first that an end with this code matches, nil if none does.
func (r restart) rule(exitCode int) *corev1.ContainerRestartRule {
	for i, rule := range r.rules {
		if codes := rule.ExitCodes; codes != nil &&
			slices.Contains(codes.Values, int32(exitCode)) == (codes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return &r.rules[i]
		}
	}
	return nil
}

func (r restart) wants(exitCode int) bool {
	if r.rule(exitCode) != nil {
		return true // every action starts it again
	}
	return r.policy == corev1.RestartPolicyAlways || r.policy == corev1.RestartPolicyOnFailure && exitCode != 0
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
	if previous == nil && current.StartError != "" { // an agent that has just started knows no more: all may have failed so
		return restartLadder[min(current.Attempt, len(restartLadder)-1)]
	}
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
	if u.again {
		return u.current.FinishedAt
	}
	return u.current.FinishedAt.Add(restartDelay(u.current, u.previous))
}
