package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"windlass.dev/windlass/test/harness"
)

// hollowVariable asks for hollow nodes where containers could run too.
const hollowVariable = "WINDLASS_DEMO_HOLLOW"

var (
	errNoRuntime = errors.New("runc and conmon are not both installed")
	errAsked     = errors.New(hollowVariable + " is set")
)

// cannotRun says why containers are out of the question, nil if they may be not.
func cannotRun() error {
	if os.Getenv(hollowVariable) != "" {
		return errAsked
	}
	if os.Geteuid() != 0 {
		return harness.ErrNoNamespace
	}
	for _, program := range []string{"runc", "conmon"} {
		if _, err := exec.LookPath(program); err != nil {
			return errNoRuntime
		}
	}
	return nil
}

// runHollow is the demo without containers and so without traffic: the same
// control plane rolls the same Deployment, and its pods are watched.
func runHollow(ctx context.Context, why error) (err error) {
	fmt.Printf("This machine runs no containers for the demo: %v.\nShown instead: the same rollouts on hollow nodes, whose pods only seem to run. No traffic is sent.\n\n", why)
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "windlass-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{began: time.Now(), cluster: &harness.Cluster{
		Binary: filepath.Join(root, "bin", "windlass"),
		Dir:    filepath.Join(dir, "data"),
		Args:   []string{"--hollow-nodes", "3", "--listen", "127.0.0.1:0"},
	}}
	if d.cluster.Kubectl, err = kubectl(d.cluster.Binary, dir); err != nil {
		return err
	}
	if err := d.cluster.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cluster.Stop()) }()
	d.say("windlass server --hollow-nodes 3 is ready")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := d.watchPods(ctx); err != nil {
		return err
	}
	for _, step := range [][]string{
		{"apply", "-f", "examples/httpd.v1.yml"},
		{"apply", "-f", "examples/httpd.v2.yml"},
		{"rollout", "undo", "deployment/httpd"},
	} {
		if err := d.kubectl(ctx, step...); err != nil {
			return err
		}
		if err := d.kubectl(ctx, "rollout", "status", "deployment/httpd", "--timeout=60s"); err != nil {
			return err
		}
	}
	return d.waitPods(ctx, 3)
}

// watchPods prints each change of a pod until ctx ends.
func (d *demo) watchPods(ctx context.Context) error {
	watch := exec.CommandContext(ctx, d.cluster.Kubectl, "get", "pods", "--watch", "--no-headers", "-o",
		`custom-columns=A:.metadata.name,B:.spec.containers[0].image,C:.status.phase,D:.status.conditions[?(@.type=="Ready")].status,E:.metadata.deletionTimestamp`)
	watch.Env = append(os.Environ(), "KUBECONFIG="+d.cluster.Kubeconfig())
	lines, err := watch.StdoutPipe()
	if err != nil {
		return err
	}
	if err := watch.Start(); err != nil {
		return err
	}
	go func() {
		shown := map[string]string{}
		for scanner := bufio.NewScanner(lines); scanner.Scan(); {
			var pod, image, phase, ready, going string
			if n, _ := fmt.Sscan(scanner.Text(), &pod, &image, &phase, &ready, &going); n != 5 {
				continue
			}
			if state := stateOf(phase, ready, going); shown[pod] != state {
				shown[pod] = state
				d.say("  %s  %s  %s", pod, image, state)
			}
		}
		_ = watch.Wait()
	}()
	return nil
}

func stateOf(phase, ready, going string) string {
	switch {
	case going != "<none>":
		return "stopping"
	case ready == "True":
		return "ready"
	}
	return phase
}
