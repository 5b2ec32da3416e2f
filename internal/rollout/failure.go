package rollout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

const (
	// restartsOfLoop is how often a container has been restarted when it is
	// taken to crash whatever is done, attemptsInVain how often its node has
	// tried to make or start it, pullsInVain to pull its image, with ten seconds
	// between, and rejectionsInVain how many pods were rejected, for each one
	// that is missing.
	restartsOfLoop   = 2
	attemptsInVain   = 6
	pullsInVain      = 2
	rejectionsInVain = 3
)

// PolicyOf returns what is to happen when a rollout of a workload fails: what
// its annotation says, else the default of its namespace, else OnFailureKeep.
func PolicyOf(workload metav1.Object, namespace v1alpha1.FailurePolicy) v1alpha1.FailurePolicy {
	own := v1alpha1.FailurePolicy(workload.GetAnnotations()[v1alpha1.AnnotationOnFailure])
	for _, policy := range []v1alpha1.FailurePolicy{own, namespace} {
		switch policy {
		case v1alpha1.OnFailureKeep, v1alpha1.OnFailurePause, v1alpha1.OnFailureRollback:
			return policy
		}
	}
	return v1alpha1.OnFailureKeep
}

// answerFailure adds the step that deals with a rollout that has failed, once for
// each revision. It is the last of its plan, and alone in changing what the user
// wants: it must be done only if the Deployment is as this plan saw it.
func (d *draft) answerFailure() {
	policy := PolicyOf(d.deployment, d.OnFailure)
	if policy == v1alpha1.OnFailureKeep || d.deployment.DeletionTimestamp != nil || d.noting() {
		return
	}
	because := d.failure()
	if because == "" || d.deployment.Annotations[v1alpha1.AnnotationFailedRevision] == d.revision {
		return
	}
	failed := Failure{Revision: d.revision, Because: because}
	if policy == v1alpha1.OnFailurePause {
		d.do(Pause{Failure: failed})
		return
	}
	target, whyNot := d.target()
	if target == nil {
		d.do(GiveUp{Failure: failed, Why: whyNot})
		return
	}
	d.do(Rollback{
		Failure:    failed,
		Name:       target.rs.Name,
		ToRevision: revisionOf(target.rs),
		Template:   withoutHash(target.rs.Spec.Template.DeepCopy()),
	})
}

// noting says whether the revision is still to be noted, or was in this plan.
func (d *draft) noting() bool {
	return slices.ContainsFunc(d.steps, func(step Step) bool { _, is := step.(SetRevision); return is })
}

// target returns the set to go back to: the latest whose rollout was complete.
// Without one it says why. A set that was complete itself is not gone back from,
// so that no rollback is rolled back.
func (d *draft) target() (target *set, whyNot string) {
	if was := d.new.rs.Annotations[v1alpha1.AnnotationCompleted]; was != "" {
		return nil, fmt.Sprintf("it was complete as revision %s, and what was good once is not gone back from", was)
	}
	if target = d.lastComplete(); target == nil {
		return nil, "no earlier revision was ever complete"
	}
	return target, ""
}

// lastComplete returns the latest old set whose rollout was complete, nil when
// there is none.
func (d *draft) lastComplete() (last *set) {
	for _, s := range d.old() {
		if !s.going() && s.rs.Annotations[v1alpha1.AnnotationCompleted] != "" && (last == nil || byRevision(s, last) > 0) {
			last = s
		}
	}
	return last
}

// failure says why the rollout has failed: a reason and a sentence; nothing when
// it has not, or is over.
func (d *draft) failure() string {
	s := d.new
	if s == nil || s.fresh || s.going() || d.over() {
		return ""
	}
	missing := s.spec - s.pods.Available
	switch {
	case d.progressReason() == ReasonDeadlineExceeded:
		deadline, _ := d.deadline()
		return d.late(max(missing, 0), deadline)
	case missing <= 0 || !d.stuck():
		return ""
	case s.pods.Active == s.spec && s.pods.Failing == missing:
		return d.example(s)
	case s.pods.Rejected >= rejectionsInVain*missing && s.rs.Annotations[AnnotationRevisionHistory] == "":
		return d.rejection(s)
	}
	return ""
}

// over says whether the rollout to the new set was complete at some time. What
// happens to its pods later is no rollout. One that was complete without pods has
// yet to show that they can run.
func (d *draft) over() bool {
	return d.complete() || d.new.rs.Annotations[v1alpha1.AnnotationCompleted] == d.revision
}

// stuck says whether nothing can be done now, nor when the pods that were told to
// stop have stopped.
func (d *draft) stuck() bool {
	moves := func(step Step) bool {
		switch step.(type) {
		case Create, Scale, Adopt, Release:
			return true
		}
		return false
	}
	return !slices.ContainsFunc(d.steps, moves) &&
		!slices.ContainsFunc(d.sets, func(s *set) bool { return s.surplus() > 0 })
}

// failedRevision is the revision that was dealt with last, 0 when there is none.
func (d *draft) failedRevision() int64 {
	return parseRevision(d.deployment.Annotations[v1alpha1.AnnotationFailedRevision])
}

// latestRevision is the highest of all sets but the new one.
func (d *draft) latestRevision() int64 { return d.nextRevision() - 1 }

// pausedBecause continues the sentence that the Deployment is paused, if a
// failure is the reason.
func (d *draft) pausedBecause() string {
	if d.revision == "" || d.deployment.Annotations[v1alpha1.AnnotationFailedRevision] != d.revision {
		return ""
	}
	return ": revision " + d.revision + " failed: " + d.deployment.Annotations[v1alpha1.AnnotationFailedBecause]
}

// late describes a missed deadline, and what keeps a pod that is missing.
func (d *draft) late(missing int32, deadline time.Duration) string {
	out := fmt.Sprintf("%s: no progress for %s with %s missing", ReasonDeadlineExceeded, deadline, pods(missing, "pod"))
	if why := d.example(d.new); why != "" {
		out += "; " + why
	}
	return out
}

// example describes the failure of the set's first failing pod.
func (d *draft) example(s *set) string { return exampleOf(d.Pods[s.rs.UID]) }

// exampleOf describes the failure of the first failing pod, by name; nothing when
// none fails.
func exampleOf(pods []*corev1.Pod) string {
	var first *corev1.Pod
	for _, pod := range pods {
		if (first == nil || pod.Name < first.Name) && StateOf(pod).Failing != "" {
			first = pod
		}
	}
	if first == nil {
		return ""
	}
	container, reason := failing(first)
	message := container.State.Waiting.Message
	if last := container.LastTerminationState.Terminated; reason == reasonCrashLoop && last != nil {
		message = fmt.Sprintf("ended with exit code %d and was restarted %d times", last.ExitCode, container.RestartCount)
		if said := strings.TrimSpace(last.Message); said != "" {
			message += ": " + said
		}
	}
	return clip(plain(fmt.Sprintf("%s: container %s %s", reason, container.Name, strings.TrimSpace(message))), maxValueLength)
}

// rejection describes the failure of the latest pod that was rejected.
func (d *draft) rejection(s *set) string {
	var last *corev1.Pod
	for _, pod := range d.Pods[s.rs.UID] {
		if StateOf(pod).Rejected && (last == nil || last.CreationTimestamp.Compare(pod.CreationTimestamp.Time) < 0) {
			last = pod
		}
	}
	return clip(plain(fmt.Sprintf("%s: %s failed, the last said: %s", cmp.Or(last.Status.Reason, "PodsFail"),
		pods(s.pods.Rejected, "pod"), cmp.Or(last.Status.Message, "nothing"))), maxValueLength)
}

// reasonCrashLoop is why a container waits that has ended too often.
const reasonCrashLoop = "CrashLoopBackOff"

// failing returns the container of a pod that waiting will not mend, and the
// reason why it does not run; no reason when there is no such container.
func failing(pod *corev1.Pod) (container *corev1.ContainerStatus, reason string) {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if waiting := list[i].State.Waiting; waiting != nil && vain(pod, &list[i]) {
				return &list[i], waiting.Reason
			}
		}
	}
	return nil, ""
}

// vain says whether a container waits for something that will not come.
func vain(pod *corev1.Pod, container *corev1.ContainerStatus) bool {
	switch container.State.Waiting.Reason {
	case reasonCrashLoop:
		return container.RestartCount >= restartsOfLoop
	case "InvalidImageName", "ErrImageNeverPull":
		return true
	case "ImagePullBackOff":
		tried := attempts(pod)
		return tried == 0 || tried >= pullsInVain // 0: its node does not count
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return attempts(pod) >= attemptsInVain
	}
	return false
}

// attempts is how often the node of a pod says that it has tried in vain to do
// what the pod waits for, 0 when it does not say.
func attempts(pod *corev1.Pod) int32 {
	var moments v1alpha1.PodMoments
	if err := json.Unmarshal([]byte(pod.Annotations[v1alpha1.AnnotationMoments]), &moments); err != nil {
		return 0
	}
	return moments.Attempts
}

// rejected says whether a pod has failed as such, as when its node refused it: a
// pod that had to give way is marked as disrupted.
func rejected(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed && pod.DeletionTimestamp == nil &&
		!slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
		})
}
