package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestScenarios runs the scripts in testdata/scenarios. Their commands:
//
//	deployment NAME [field=value...]   begins anew with a Deployment
//	edit [field=value...]              changes it, as a user would
//	    replicas, image, surge, unavailable, strategy, min-ready, deadline,
//	    history, paused, restart, cause, label, copied (from one of that revision)
//	undo [to=N]                        as kubectl rollout undo
//	step [crash=N]                     decides, prints the plan and carries it out
//	                                   (its first N steps); then sets make and stop pods
//	ready|unready [N] [of=REVISION]    N pods (else all) become ready, or not
//	fail [N] [of=REVISION]             N pods end with an error
//	delete NAME                        a set and its pods go
//	resize NAME N                      somebody scales a set by hand
//	stop                               pods that were told to stop are gone
//	advance DURATION                   time passes
//	run                                steps, with all pods ready and gone at once,
//	                                   until there is nothing to do; prints the events
//	waits REASON [N] [of=REVISION] [restarts=N] [attempts=N] [init]
//	                                   the container, or an init container, of N pods
//	                                   (else all) that are not ready waits for a reason
//	rejected [N] [of=REVISION] [evicted]
//	                                   N pods are refused by their node, or evicted
//	namespace [on-failure=POLICY]      what the namespace says
//	history, conditions, budgets, annotations
//	                                   print what there is
//
// With statefulset NAME [field=value...] in place of deployment, they are about a
// StatefulSet. There a pod has a name that lasts, so that ready, unready, fail,
// waits and delete take names of pods (else all); and there are
//
//	relabel|orphan [POD...]            pods lose the label, or their controller
//	pods, claims, manifest POD         print what there is
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		w, stateful := newWorld(), (*statefulWorld)(nil)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			run := w.command
			switch {
			case d.Cmd == "statefulset":
				stateful = newStatefulWorld(d.CmdArgs[0].Key)
				d.Cmd, d.CmdArgs = "edit", d.CmdArgs[1:]
				run = stateful.command
			case d.Cmd == "deployment":
				stateful = nil
			case stateful != nil:
				run = stateful.command
			}
			out, err := run(t, d)
			if err != nil {
				return "error: " + err.Error() + "\n"
			}
			return out
		})
	})
}

func (w *world) command(t *testing.T, d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "deployment":
		*w = *newWorld()
		w.deployment = newDeployment(d.CmdArgs[0].Key, 1, "")
		return "", change(w.deployment, d.CmdArgs[1:])
	case "edit":
		var err error
		w.edit(func(deployment *appsv1.Deployment) { err = change(deployment, d.CmdArgs) })
		return "", err
	case "ready", "unready", "fail":
		return w.podsChange(t, d)
	case "delete":
		w.carryOut(Delete{ReplicaSet: w.set(d.CmdArgs[0].Key)})
		return "", nil
	case "resize":
		n, err := strconv.Atoi(d.CmdArgs[1].Key)
		w.set(d.CmdArgs[0].Key).Spec.Replicas = ptr.To(int32(n))
		w.settle()
		return "", err
	case "history":
		return w.history(), nil
	case "conditions":
		var b strings.Builder
		for _, c := range w.deployment.Status.Conditions {
			fmt.Fprintf(&b, "%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
		}
		return b.String(), nil
	case "waits", "rejected":
		return w.podsGoWrong(t, d)
	case "annotations":
		return w.annotations(), nil
	case "budgets":
		return budgets(d.Input)
	}
	return command(t, w, d)
}

// change sets fields of a Deployment by short names.
func change(deployment *appsv1.Deployment, args []datadriven.CmdArg) error {
	spec := &deployment.Spec
	number := func(s string) *int32 {
		n, err := strconv.Atoi(s)
		if err != nil {
			panic(err)
		}
		return ptr.To(int32(n))
	}
	for _, arg := range args {
		value := strings.Join(arg.Vals, " ")
		switch arg.Key {
		case "replicas":
			spec.Replicas = number(value)
		case "image":
			spec.Template.Spec.Containers[0].Image = value
		case "surge":
			spec.Strategy.RollingUpdate.MaxSurge = ptr.To(intstr.Parse(value))
		case "unavailable":
			spec.Strategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.Parse(value))
		case "strategy":
			spec.Strategy.Type = appsv1.DeploymentStrategyType(value)
		case "min-ready":
			spec.MinReadySeconds = *number(value)
		case "deadline":
			spec.ProgressDeadlineSeconds = number(value)
		case "history":
			spec.RevisionHistoryLimit = number(value)
		case "paused":
			spec.Paused = value == "true"
		case "restart":
			spec.Template.Annotations = with(spec.Template.Annotations, "kubectl.kubernetes.io/restartedAt", value)
		case "cause":
			deployment.Annotations = with(deployment.Annotations, AnnotationChangeCause, value)
		case "on-failure":
			deployment.Annotations = with(deployment.Annotations, v1alpha1.AnnotationOnFailure, value)
		case "env":
			spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "FOO", Value: value}}
		case "no-cause":
			deployment.Annotations = without(deployment.Annotations, AnnotationChangeCause)
		case "unnoted":
			deployment.Annotations = without(deployment.Annotations, v1alpha1.AnnotationNotedCause)
		case "copied":
			deployment.Annotations = merged(deployment.Annotations, map[string]string{
				AnnotationRevision: value, v1alpha1.AnnotationNotedCause: deployment.Annotations[AnnotationChangeCause],
				v1alpha1.AnnotationFailedRevision: value, v1alpha1.AnnotationFailedBecause: "Late: it was", v1alpha1.AnnotationFailedAction: "rollback",
			})
		case "label":
			spec.Selector.MatchLabels = map[string]string{"run": value}
			spec.Template.Labels = map[string]string{"run": value}
		default:
			return fmt.Errorf("no field %q", arg.Key)
		}
	}
	return nil
}

func (w *world) step(few int) (string, error) { return step(w, few) }

func (w *world) run() (string, error) { return run(w) }

func (w *world) decide() Plan { return Decide(w.snapshot()) }

func (w *world) succeed() bool {
	changed := w.reap() > 0
	for _, pod := range w.those(nil, func(s PodState) bool { return s.Active && !s.Ready }) {
		w.setReady(pod, true)
		changed = true
	}
	return changed
}

func (w *world) podsChange(t *testing.T, d *datadriven.TestData) (string, error) {
	n, revision := len(w.pods), int64(0)
	if len(d.CmdArgs) > 0 && len(d.CmdArgs[0].Vals) == 0 {
		n, _ = strconv.Atoi(d.CmdArgs[0].Key)
	}
	d.MaybeScanArgs(t, "of", &revision)
	var rs *appsv1.ReplicaSet
	if revision != 0 {
		if rs = w.byRevision(revision); rs == nil {
			return "", fmt.Errorf("no revision %d", revision)
		}
	}
	picked := w.those(rs, func(s PodState) bool { return s.Active && s.Ready != (d.Cmd == "ready") })
	picked = picked[:min(n, len(picked))]
	for _, pod := range picked {
		if d.Cmd == "fail" {
			pod.Status.Phase = corev1.PodFailed
			continue
		}
		w.setReady(pod, d.Cmd == "ready")
	}
	w.settle()
	return fmt.Sprintf("%s %s\n", pods(int32(len(picked)), "pod"), map[string]string{
		"ready": "ready", "unready": "not ready", "fail": "failed"}[d.Cmd]), nil
}

// budgets prints a line for each line "replicas surge unavailable" of input.
func budgets(input string) (string, error) {
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		f := strings.Fields(line)
		deployment := newDeployment("httpd", 1, "httpd")
		if err := change(deployment, []datadriven.CmdArg{
			{Key: "replicas", Vals: f[:1]}, {Key: "surge", Vals: f[1:2]}, {Key: "unavailable", Vals: f[2:3]},
		}); err != nil {
			return "", err
		}
		budget := BudgetOf(deployment)
		fmt.Fprintf(&b, "%s %s %s: surge %d, unavailable %d; at most %d pods, at least %d available\n",
			f[0], f[1], f[2], budget.Surge, budget.Unavailable, budget.MaxTotal(), budget.MinAvailable())
	}
	return b.String(), nil
}
