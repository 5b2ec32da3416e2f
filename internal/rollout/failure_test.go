package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"windlass.dev/windlass/api/v1alpha1"
)

// podsGoWrong lets pods wait for what will not come, or fail as a whole.
func (w *world) podsGoWrong(t *testing.T, d *datadriven.TestData) (string, error) {
	n, restarts, attempts, revision := len(w.pods), int32(0), 0, int64(0)
	for _, arg := range d.CmdArgs {
		if number, err := strconv.Atoi(arg.Key); err == nil {
			n = number
		}
	}
	d.MaybeScanArgs(t, "of", &revision)
	d.MaybeScanArgs(t, "restarts", &restarts)
	d.MaybeScanArgs(t, "attempts", &attempts)
	picked := w.those(w.byRevision(revision), func(s PodState) bool { return s.Active && !s.Ready })
	picked = picked[:min(n, len(picked))]
	for _, pod := range picked {
		if d.Cmd == "rejected" {
			pod.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "the node has 100m left"}
			if d.HasArg("evicted") {
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
			}
			continue
		}
		wait(pod, d.CmdArgs[0].Key, restarts, d.HasArg("init"))
		pod.Annotations = map[string]string{v1alpha1.AnnotationMoments: fmt.Sprintf(`{"attempts":%d}`, attempts)}
	}
	w.settle()
	return fmt.Sprintln(pods(int32(len(picked)), "pod"), d.Cmd), nil
}

// wait has a container of a pod wait for a reason.
func wait(pod *corev1.Pod, reason string, restarts int32, initial bool) {
	status := corev1.ContainerStatus{
		Name: pod.Spec.Containers[0].Name, RestartCount: restarts,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "says the node"}},
	}
	if restarts > 0 {
		status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1}
	}
	pod.Status.Phase = corev1.PodPending
	pod.Status.Conditions, pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses = nil, nil, nil
	if initial {
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{status}
	} else {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{status}
	}
}

// annotations shows those of the Deployment, and of its sets by revision.
func (w *world) annotations() string {
	var b strings.Builder
	show := func(name string, annotations map[string]string) {
		fmt.Fprintln(&b, name)
		for _, key := range slices.Sorted(maps.Keys(annotations)) {
			if key != AnnotationDesiredReplicas && key != AnnotationMaxReplicas {
				fmt.Fprintf(&b, "  %s: %s\n", key, annotations[key])
			}
		}
	}
	show("deployment", w.deployment.Annotations)
	for _, rs := range slices.SortedFunc(slices.Values(w.sets), func(a, b *appsv1.ReplicaSet) int { return int(revisionOf(a) - revisionOf(b)) }) {
		show(rs.Name, rs.Annotations)
	}
	return b.String()
}

// TestFailuresEnd: whatever the user does, and wherever the controller dies, a
// revision is dealt with once, a rollback leads from what never served to what
// did, and when the user stops, so does the controller.
func TestFailuresEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &mishaps{world: newWorld()}
		f.deployment = newDeployment("httpd", 3, "good:0")
		f.deployment.Spec.RevisionHistoryLimit = ptr.To(rapid.Int32Range(0, 4).Draw(t, "history"))
		f.change(t)
		t.Repeat(map[string]func(*rapid.T){
			"edit":   f.change,
			"decide": func(t *rapid.T) { f.decide(t, rapid.IntRange(0, 9).Draw(t, "crash")) },
			"nodes":  func(t *rapid.T) { f.nodes(rapid.IntRange(0, 3).Draw(t, "pods")) },
			"break":  f.breakSet,
			"proceed": func(t *rapid.T) {
				for range rapid.IntRange(2, 10).Draw(t, "rounds") {
					f.decide(t, 1000)
					f.nodes(1000)
					f.reap()
				}
			},
			"stop": func(*rapid.T) { f.reap() },
			"time": func(*rapid.T) { f.now = f.now.Add(100 * time.Second) },
		})
		for _, pod := range f.those(nil, func(s PodState) bool { return s.Failing == reasonCrashLoop }) {
			f.setReady(pod, true)
		}
		for range 200 {
			if f.deployment.Spec.Paused {
				f.edit(func(d *appsv1.Deployment) { d.Spec.Paused = false })
			}
			if f.decide(t, 1000)+f.nodes(1000)+f.reap() == 0 {
				f.checkEnd(t)
				return
			}
		}
		t.Fatalf("it does not end\n%s", f.history())
	})
}

// mishaps is a world in which pods of some images fail.
type mishaps struct {
	*world
	rollbacks []string // revisions that were rolled back
}

func (f *mishaps) change(t *rapid.T) {
	f.edit(func(d *appsv1.Deployment) {
		switch rapid.SampledFrom([]string{"image", "image", "policy", "replicas", "pause", "strategy"}).Draw(t, "what") {
		case "image":
			d.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom([]string{"good:1", "good:2", "bad:1", "bad:2"}).Draw(t, "image")
		case "policy":
			policy := rapid.SampledFrom([]v1alpha1.FailurePolicy{"keep", "pause", "rollback", "rollback"}).Draw(t, "policy")
			d.Annotations = with(d.Annotations, v1alpha1.AnnotationOnFailure, string(policy))
		case "replicas":
			d.Spec.Replicas = ptr.To(rapid.Int32Range(0, 5).Draw(t, "replicas"))
		case "pause":
			d.Spec.Paused = !d.Spec.Paused
		case "strategy":
			d.Spec.Strategy.Type = rapid.SampledFrom([]appsv1.DeploymentStrategyType{"RollingUpdate", "Recreate"}).Draw(t, "strategy")
		}
	})
}

// decide carries out the first steps of a plan and returns how many it has.
func (f *mishaps) decide(t *rapid.T, few int) int {
	plan := Decide(f.snapshot())
	for _, step := range plan.Steps[:min(few, len(plan.Steps))] {
		var failed Failure
		switch step := step.(type) {
		case Rollback:
			failed = step.Failure
			from, to := f.revision(step.Revision), f.set(step.Name)
			if from.Annotations[v1alpha1.AnnotationCompleted] != "" || to.Annotations[v1alpha1.AnnotationCompleted] == "" ||
				slices.Contains(f.rollbacks, step.Revision) || strings.HasPrefix(step.Template.Spec.Containers[0].Image, "bad") {
				t.Fatalf("%s\n%s", step, f.history())
			}
			f.rollbacks = append(f.rollbacks, step.Revision)
		case Pause:
			failed = step.Failure
		case GiveUp:
			failed = step.Failure
		}
		if failed != (Failure{}) && (f.deployment.Spec.Paused || failed.Revision == f.deployment.Annotations[v1alpha1.AnnotationFailedRevision]) {
			t.Fatalf("%s\nfor the second time, or of a paused Deployment", step)
		}
		if err := f.carryOut(step); err != nil {
			t.Fatal(err)
		}
	}
	f.settle()
	return len(plan.Steps)
}

func (f *mishaps) revision(revision string) *appsv1.ReplicaSet {
	n, _ := strconv.ParseInt(revision, 10, 64)
	return f.byRevision(n)
}

// nodes starts some pods that are not: in vain if their image is bad. It returns
// how many pods changed.
func (f *mishaps) nodes(n int) (changed int) {
	for _, pod := range f.those(nil, func(s PodState) bool { return s.Active && !s.Ready && s.Failing == "" }) {
		if changed == n {
			break
		}
		changed++
		if strings.HasPrefix(pod.Spec.Containers[0].Image, "bad") {
			wait(pod, "ImagePullBackOff", 0, false)
		} else {
			f.setReady(pod, true)
		}
	}
	return changed
}

// breakSet has all pods of a set crash, whatever their image.
func (f *mishaps) breakSet(t *rapid.T) {
	if len(f.sets) > 0 {
		for _, pod := range f.those(pick(t, f.sets), func(s PodState) bool { return s.Ready }) {
			wait(pod, reasonCrashLoop, 5, false)
		}
	}
}

// checkEnd: a good template is complete; a bad one stands only where nothing
// better is known or wanted.
func (f *mishaps) checkEnd(t *rapid.T) {
	replicas, st := *f.deployment.Spec.Replicas, f.deployment.Status
	if st.AvailableReplicas == replicas && st.UpdatedReplicas == replicas && st.Replicas == replicas {
		return
	}
	a := f.deployment.Annotations
	if !strings.HasPrefix(f.deployment.Spec.Template.Spec.Containers[0].Image, "bad") {
		t.Fatalf("a good template is not complete\n%s", f.history())
	}
	if PolicyOf(f.deployment, "") != v1alpha1.OnFailureKeep && a[v1alpha1.AnnotationFailedRevision] != a[AnnotationRevision] && !f.over() {
		t.Fatalf("a bad template stands: %v\n%s", a, f.history())
	}
}

// over says whether the last rollout was complete once, with pods.
func (f *mishaps) over() bool {
	rs := NewSet(f.deployment, f.sets)
	return rs != nil && rs.Annotations[v1alpha1.AnnotationCompleted] == rs.Annotations[AnnotationRevision]
}

// TestCausesSurviveCrashes: a controller that dies between any two steps leaves
// the same causes as one that does not.
func TestCausesSurviveCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sound, mortal := newWorld(), newWorld()
		for _, w := range []*world{sound, mortal} {
			w.deployment = newDeployment("httpd", 2, "httpd:0")
		}
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			kind := rapid.SampledFrom([]string{"image", "image", "both", "cause", "none", "undo", "replace"}).Draw(t, "kind")
			image := fmt.Sprintf("httpd:%d", rapid.IntRange(0, 3).Draw(t, "image"))
			cause := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "cause")
			for _, w := range []*world{sound, mortal} {
				if kind == "undo" {
					_ = w.undo(0) // there may be nothing to undo
					continue
				}
				w.edit(func(d *appsv1.Deployment) {
					if kind == "image" || kind == "both" {
						d.Spec.Template.Spec.Containers[0].Image = image
					}
					if kind == "cause" || kind == "both" {
						d.Annotations = with(d.Annotations, AnnotationChangeCause, cause)
					}
					if kind == "none" {
						d.Annotations = without(d.Annotations, AnnotationChangeCause)
					}
					if kind == "replace" {
						d.Annotations = map[string]string{AnnotationChangeCause: cause}
					}
				})
			}
			for range rapid.IntRange(0, 6).Draw(t, "crashes") {
				if _, err := mortal.step(rapid.IntRange(0, 2).Draw(t, "after")); err != nil {
					t.Fatal(err)
				}
			}
			for _, w := range []*world{sound, mortal} {
				if _, err := w.run(); err != nil {
					t.Fatal(err)
				}
			}
			if a, b := sound.causes(), mortal.causes(); a != b {
				t.Fatalf("after %s:\n%s\nwith crashes\n%s", kind, a, b)
			}
		}
	})
}

// causes shows everything that is said of causes.
func (w *world) causes() string {
	out := w.history() + w.deployment.Annotations[AnnotationChangeCause] + " noted " + w.deployment.Annotations[v1alpha1.AnnotationNotedCause]
	for _, rs := range w.sets {
		if rs.Annotations[AnnotationChangeCause] == "" {
			out += "\nno cause: " + rs.Name
		}
	}
	return out
}
