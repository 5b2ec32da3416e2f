package rollout

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// stage is what the worlds of Deployments and of StatefulSets have in common.
type stage struct {
	now       time.Time
	events    []string
	made      int                    // objects made so far
	onFailure v1alpha1.FailurePolicy // of the namespace
}

func newStage() stage { return stage{now: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)} }

// here is the stage itself.
func (s *stage) here() *stage { return s }

// setReady makes a pod ready, or not.
func (s *stage) setReady(pod *corev1.Pod, ready bool) {
	status := map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[ready]
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(s.now)},
	}}
}

// acted is a world in which plans are made and carried out.
type acted interface {
	here() *stage
	decide() Plan
	carryOut(Step) error
	settle()       // lets those act who carry out what was written
	succeed() bool // lets pods stop and become ready, and says whether any did
	reap() int     // takes away the pods that were told to stop, and says how many
	undo(to int64) error
}

// command runs a command that scripts about both kinds have.
func command(t *testing.T, w acted, d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "undo":
		var to int64
		d.MaybeScanArgs(t, "to", &to)
		return "", w.undo(to)
	case "step":
		crash := -1
		d.MaybeScanArgs(t, "crash", &crash)
		return step(w, crash)
	case "run":
		return run(w)
	case "stop":
		return fmt.Sprintln(pods(int32(w.reap()), "pod"), "gone"), nil
	case "advance":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		w.here().now = w.here().now.Add(by)
		return "", err
	case "namespace":
		w.here().onFailure = ""
		if len(d.CmdArgs) > 0 {
			w.here().onFailure = v1alpha1.FailurePolicy(d.CmdArgs[0].Vals[0])
		}
		return "", nil
	}
	return "", fmt.Errorf("no command %q", d.Cmd)
}

// step decides and carries out the first steps of the plan, or all when few is
// negative. It returns the plan as a script shows it.
func step(w acted, few int) (string, error) {
	plan := w.decide()
	out := plan.String()
	if !plan.WakeAt.IsZero() {
		out += fmt.Sprintf("look again in %s\n", plan.WakeAt.Sub(w.here().now).Round(time.Second))
	}
	for i, step := range plan.Steps {
		if i == few {
			break
		}
		if err := w.carryOut(step); err != nil {
			return out, err
		}
	}
	w.settle()
	if out == "" {
		out = "nothing to do\n"
	}
	return out, nil
}

// run goes on until nothing changes, in a world where everything succeeds, and
// returns the events.
func run(w acted) (string, error) {
	first := len(w.here().events)
	for range 1000 {
		plan := w.decide()
		for _, step := range plan.Steps {
			if err := w.carryOut(step); err != nil {
				return "", err
			}
		}
		w.settle()
		if w.succeed() || len(plan.Steps) > 0 {
			continue
		}
		if plan.WakeAt.IsZero() {
			return strings.Join(append(w.here().events[first:], ""), "\n"), nil
		}
		w.here().now = plan.WakeAt
	}
	return "", errors.New("it does not end")
}
