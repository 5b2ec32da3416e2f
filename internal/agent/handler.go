package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/probe"
)

// postStartWork runs a container's postStart hook, for as long as it takes. Events
// do not tell what went wrong, as the answer of a hook may be secret.
func (w *worker) postStartWork(act Act, spec *corev1.Container) work {
	run := w.hookRun(act, spec)
	return func(ctx context.Context) (func(), error) {
		err := run(ctx)
		if ctx.Err() != nil {
			return nil, context.Canceled
		}
		hook := PostStart{At: time.Now(), Failed: err != nil}
		if err != nil {
			hook.Message = err.Error()
		}
		return func() {
			w.seen.PostStarts[act.ID] = hook
			if hook.Failed {
				w.tellHook(act, "FailedPostStartHook", "PostStartHook failed", err)
			}
		}, nil
	}
}

// preStopWork runs a container's preStop hook until its deadline.
func (w *worker) preStopWork(act Act, spec *corev1.Container) work {
	run := w.hookRun(act, spec)
	return func(ctx context.Context) (func(), error) {
		ctx, cancel := context.WithDeadline(ctx, act.Deadline)
		defer cancel()
		err := run(ctx)
		return func() { // a hook that fails holds nothing up
			w.progress(act.ID, func(p *StopProgress) { p.PreStopDone = true })
			if err != nil {
				w.tellHook(act, "FailedPreStopHook", "PreStopHook failed", err)
			}
		}, nil
	}
}

func (w *worker) tellHook(act Act, reason, message string, err error) {
	w.agent.cfg.Log.Warn("Hook failed", "pod", w.pod.Namespace+"/"+w.pod.Name, "act", act.String(), "err", err)
	w.tell(Event{act.Container, corev1.EventTypeWarning, reason, message})
}

// hookRun returns what runs a hook of a container.
func (w *worker) hookRun(act Act, spec *corev1.Container) func(context.Context) error {
	a, hook := w.agent, hookOf(spec, act.Kind)
	target := probe.Target{ID: act.ID, Address: w.probeAddress(), Ports: spec.Ports}
	return func(ctx context.Context) error {
		switch {
		case hook.Exec != nil:
			code, output, err := a.cfg.Runtime.Exec(ctx, act.ID, hook.Exec.Command)
			if err == nil && code != 0 {
				err = fmt.Errorf("command %q exited with %d: %.200s", hook.Exec.Command, code, output)
			}
			return err
		case hook.HTTPGet != nil:
			return a.cfg.Prober.Hook(ctx, hook.HTTPGet, target)
		case hook.Sleep != nil:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
				return nil
			}
		}
		return errors.New("the hook has no handler that is supported (exec, httpGet, sleep)")
	}
}
