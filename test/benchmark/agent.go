package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/test/harness"
)

const (
	agentPods = 50
	settled   = 30 * time.Second // before something is read, and how long it is read
)

// agent measures what `windlass agent` takes, at idle and with 50 pods.
func (b *bench) agent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return b.withFleet(ctx, 1, nil, func(f *harness.Fleet, _ *kubernetes.Clientset) error {
		m := f.Agents[0]
		if err := agentTakes(ctx, m.Pid(), "no pods"); err != nil {
			return err
		}
		if _, err := f.Server.RunInput(ctx, crowd(agentPods, "{kubernetes.io/hostname: "+m.Name+"}"), f.Server.Kubectl, "apply", "-f", "-"); err != nil {
			return err
		}
		if _, err := f.Server.KubectlRun(ctx, "rollout", "status", "deployment/crowd", "--timeout=120s"); err != nil {
			return err
		}
		if err := agentTakes(ctx, m.Pid(), fmt.Sprintf("%d pods", agentPods)); err != nil {
			return err
		}
		_, err := f.Server.KubectlRun(ctx, "delete", "deployment/crowd", "--cascade=foreground", "--timeout=120s")
		return err
	})
}

// agentTakes prints the memory and the processor time of an agent that has nothing
// to do but keep what it has.
func agentTakes(ctx context.Context, pid int, with string) error {
	if err := pause(ctx, settled); err != nil {
		return err
	}
	busy, err := cpuShare(ctx, pid, settled)
	if err != nil {
		return err
	}
	var kB [3]int
	for i, name := range []string{"VmRSS:", "RssAnon:", "RssFile:"} {
		if kB[i], err = memoryOf(pid, "status", name); err != nil {
			return err
		}
	}
	row(fmt.Sprintf("`windlass agent` with %s: memory after %v (anonymous, files)", with, 2*settled), "%d kB (%d, %d)", kB[0], kB[1], kB[2])
	row(fmt.Sprintf("`windlass agent` with %s: CPU of one core", with), "%.1f%%", 100*busy)
	return nil
}
