package sim

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
)

// TestScripts runs the scripts in testdata. Each begins with "nodes N" and ends
// with a check that no promise was broken. The commands:
//
//	nodes N                          a world with N hollow nodes
//	apply                            a Deployment or StatefulSet, from the input; its container is "web"
//	image D IMAGE | scale D N | pause D | resume D | undo D
//	kill|crash|unready|ready D rsN   harms a pod of the Nth ReplicaSet that D got, or heals all
//	                                 a StatefulSet's is named in place of rsN
//	agent stop|start NODE
//	controllers crash [after=N]      at once, or after N more writes; others begin anew
//	wait D settled                   complete, with all that is superfluous gone
//	wait D updated=N|available=N|unready=N
//	print                            once it is as expected; else what is after a minute
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Parallel()
		var w *world
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "nodes" {
				n, err := strconv.Atoi(d.CmdArgs[0].Key)
				if err != nil {
					t.Fatal(err)
				}
				w = newWorld(t, n)
				return ""
			}
			w.t = t
			if err := w.do(d); err != nil {
				return err.Error() + "\n"
			}
			if d.Cmd == "print" {
				return w.print(d)
			}
			return ""
		})
		w.promises()
	})
}

// do carries out a command.
func (w *world) do(d *datadriven.TestData) error {
	arg := func(i int) string {
		if i < len(d.CmdArgs) {
			return d.CmdArgs[i].Key
		}
		return ""
	}
	switch d.Cmd {
	case "print":
		return nil
	case "apply":
		if isStateful(d.Input) {
			return w.applyStateful(d.Input)
		}
		return w.apply(d.Input)
	case "image":
		return w.setImage(arg(0), arg(1))
	case "scale":
		n, err := strconv.Atoi(arg(1))
		if err != nil {
			return err
		}
		return w.patch(arg(0), map[string]any{"replicas": n})
	case "pause", "resume":
		return w.patch(arg(0), map[string]any{"paused": d.Cmd == "pause"})
	case "undo":
		return w.undo(arg(0))
	case "kill", "crash", "unready":
		var pod *corev1.Pod
		w.eventually("a pod of "+arg(1)+" is on a node", func() (is bool) {
			var err error
			if pod, err = w.statefulPod(arg(1)); err != nil {
				pod, err = w.podOf(arg(0), arg(1))
			}
			return err == nil && pod.Spec.NodeName != ""
		})
		return w.harm(d.Cmd, pod)
	case "ready":
		return w.heal(arg(0))
	case "agent":
		if arg(0) == "stop" {
			return w.fleet.Stop(arg(1))
		}
		return w.fleet.Start(arg(1))
	case "controllers":
		n := 0
		if d.HasArg("after") {
			d.ScanArgs(w.tb(), "after", &n)
		}
		w.crashControllers(n)
		return nil
	case "wait":
		return w.wait(arg(0), d.CmdArgs[1])
	}
	return fmt.Errorf("no such command: %s", d.Cmd)
}

// print describes the world once it is as the script expects, or has not changed
// for a while where the script is to be written anew.
func (w *world) print(d *datadriven.TestData) string {
	text, since := w.describe(), time.Now()
	for began := time.Now(); text != d.Expected && time.Since(began) < patience; {
		time.Sleep(10 * time.Millisecond)
		if next := w.describe(); next != text {
			text, since = next, time.Now()
		}
		if d.Rewrite && time.Since(since) > 2*time.Second {
			break
		}
	}
	return text
}

func (w *world) tb() *testing.T { return w.t.(*testing.T) }

// heal undoes all that unready did to the pods of a Deployment.
func (w *world) heal(name string) error {
	for _, pod := range w.pods() {
		if pod.Labels["app"] == name && pod.Spec.NodeName != "" {
			if err := w.harm("ready", &pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// wait waits for a condition of a Deployment.
func (w *world) wait(name string, condition datadriven.CmdArg) error {
	if condition.Key == "settled" {
		w.settled(name)
		return nil
	}
	n, err := strconv.Atoi(strings.Join(condition.Vals, ""))
	if err != nil {
		return err
	}
	w.eventually(fmt.Sprintf("%s has %s=%d", name, condition.Key, n), func() bool {
		if set, err := w.statefulSet(name); err == nil {
			return set.Status.ObservedGeneration >= set.Generation &&
				map[string]int32{"updated": set.Status.UpdatedReplicas, "available": set.Status.AvailableReplicas}[condition.Key] == int32(n)
		}
		d, err := w.deployment(name)
		if err != nil || d.Status.ObservedGeneration < d.Generation {
			return false
		}
		switch condition.Key {
		case "updated":
			return int(d.Status.UpdatedReplicas) == n
		case "available":
			return int(d.Status.AvailableReplicas) == n
		case "unready":
			return int(d.Status.UnavailableReplicas) == n
		}
		return false
	})
	return nil
}
