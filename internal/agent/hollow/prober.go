package hollow

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/probe"
)

// Prober returns what asks the node's containers: without the network, whatever
// their probes are.
func (n *Node) Prober() agent.Prober { return fakeProber{n} }

type fakeProber struct{ n *Node }

// Probe implements agent.Prober. A container that runs is alive.
func (f fakeProber) Probe(ctx context.Context, kind agent.ProbeKind, _ *corev1.Probe, target probe.Target) error {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	c := f.n.containers[target.ID]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c == nil || c.Phase != agent.ContainerRunning:
		return fmt.Errorf("container %s does not run", target.ID)
	case kind != agent.LivenessProbe && !c.listening():
		return errors.New("hollow container is not ready yet")
	case kind == agent.ReadinessProbe && f.n.unready[c.PodUID]:
		return errors.New("hollow container was made unready")
	}
	return nil
}

// Hook implements agent.Prober. Hooks succeed.
func (f fakeProber) Hook(context.Context, *corev1.HTTPGetAction, probe.Target) error { return nil }
