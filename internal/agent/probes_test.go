package agent_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/agent"
)

// troubled is a runtime that cannot run commands in containers, until it is well.
type troubled struct {
	agent.Runtime
	tried *atomic.Int32
	well  *atomic.Bool
}

func (r troubled) Exec(context.Context, string, []string) (int, []byte, error) {
	r.tried.Add(1)
	if r.well.Load() {
		return 1, []byte("sick"), nil
	}
	return 0, nil, errors.New("exec: no space left on device")
}

// A probe that could not be made is the node's trouble, not the container's.
func testUnmadeProbe(t *testing.T, h *harness) {
	runtime := troubled{h.node.Runtime(), new(atomic.Int32), new(atomic.Bool)}
	h.runtime = runtime
	h.start()
	pod := h.untilReady(h.pod("p", func(p *corev1.Pod) {
		p.Annotations = map[string]string{v1alpha1.AnnotationDrain: v1alpha1.DrainOff}
		p.Spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}}}
	}))
	h.until("the third probe", func() bool { return runtime.tried.Load() >= 3 })
	if h.events.has("Killing: ") || !ready(h.get(pod)) {
		t.Errorf("stopped though nobody knows how it is: %v", h.events.list)
	}
	if !h.events.has("Unhealthy: Liveness probe errored and resulted in unknown state: exec: no space left on device") {
		t.Errorf("nothing tells of it: %v", h.events.list)
	}
	runtime.well.Store(true)
	h.until("the end by a probe that fails", func() bool { return h.events.has("Killing: Container web failed liveness probe") })
}
