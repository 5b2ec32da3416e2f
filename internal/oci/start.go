package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent"
)

// Start makes and starts a container and returns once its process runs. Called
// again for a container that has a record, it returns that. On error nothing is
// left; the OCI runtime's reason (a command that the image does not have, say)
// is in the error.
func (r *Runtime) Start(ctx context.Context, spec agent.ContainerSpec) (agent.Container, error) {
	if err := checkIDs(spec.ID, spec.PodUID); err != nil {
		return agent.Container{}, err
	}
	if len(spec.Args) == 0 {
		return agent.Container{}, fmt.Errorf("container %s: no command", spec.ID)
	}
	if strings.Contains(spec.LogPath, ":") {
		return agent.Container{}, fmt.Errorf("container %s: conmon cannot log to a path with a colon: %s", spec.ID, spec.LogPath)
	}
	c, present, err := r.claim(&spec)
	if err != nil {
		return agent.Container{}, err
	}
	defer c.mu.Unlock()
	if present {
		return c.rec.Container, nil
	}
	if spec.Users != nil && spec.IPC == agent.ScopePod {
		defer r.makesIPC(spec.PodUID, c)()
	}
	timing := stages{began: time.Now()}
	timing.last = timing.began
	shared, err := r.join(ctx, &spec)
	if err == nil {
		err = r.start(ctx, &spec, shared, &c.rec, &timing)
	}
	if err != nil {
		// Even when ctx has ended.
		if undo := r.wipe(context.WithoutCancel(ctx), &c.rec); undo != nil {
			r.log.Error("Cleaning up after a failed start", "container", spec.ID, "err", undo)
			return agent.Container{}, err // List tries again: the record says Creating
		}
		r.forget(c)
		return agent.Container{}, err
	}
	if r.stages != nil && spec.Attempt == 0 && !isPause(spec.ID) {
		for _, part := range timing.parts {
			r.stages.Observe("container_"+part.Key, part.Value.Duration())
		}
	}
	r.log.Debug("Started container", append([]any{"container", spec.ID, "pid", c.rec.Pid}, timing.attrs()...)...)
	started := c.rec.Container
	// Its end may have come before the record that it is the end of.
	r.settle(c)
	return started, nil
}

// claim returns the container of a spec locked, and whether it has a record
// already. A new one is in Creating.
func (r *Runtime) claim(spec *agent.ContainerSpec) (c *container, present bool, err error) {
	for {
		if c := r.find(spec.ID); c != nil && c.rec.Phase != phaseCreating {
			return c, true, nil
		} else if c != nil {
			// Left by a failed start or a crash.
			err := r.wipe(context.Background(), &c.rec)
			if err == nil {
				r.forget(c)
			}
			c.mu.Unlock()
			if err != nil {
				return nil, false, fmt.Errorf("clean up after a failed start of container %s: %w", spec.ID, err)
			}
			continue
		}
		c := &container{podUID: spec.PodUID, rec: newRecord(spec)}
		c.mu.Lock()
		r.mu.Lock()
		_, taken := r.containers[spec.ID]
		if !taken {
			r.containers[spec.ID] = c
		}
		r.mu.Unlock()
		if !taken {
			return c, false, nil
		}
	}
}

func newRecord(spec *agent.ContainerSpec) record {
	return record{Class: classOf(spec.Pod.QOS), Container: agent.Container{
		ID: spec.ID, PodUID: spec.PodUID, Name: spec.Name, Attempt: spec.Attempt,
		ImageID: spec.ImageID, Image: spec.Image, LogPath: spec.LogPath, Phase: phaseCreating, Granted: &spec.Granted,
		VolumeImageIDs: spec.VolumeImageIDs,
	}, SharedPID: spec.PID != agent.ScopeOwn, SharedIPC: spec.IPC == agent.ScopePod}
}

// start is Start's way there: record, rootfs, bundle, create, start, record.
func (r *Runtime) start(ctx context.Context, spec *agent.ContainerSpec, shared joined, rec *record, timing *stages) error {
	dir := r.containerDir(spec.ID)
	for _, d := range []string{dir, filepath.Dir(spec.LogPath)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if err := writeRecord(dir, *rec); err != nil {
		return err
	}
	if err := r.cgroups.makePod(rec, spec.Pod.Resources); err != nil {
		return err
	}
	timing.done("groups")
	rootfs := filepath.Join(dir, "rootfs")
	if spec.Users != nil {
		own, at, done, err := r.withUsers(spec, dir, &shared)
		if err != nil {
			return err
		}
		defer done()
		spec, rootfs = own, at
	}
	if err := mountRootfs(dir, rootfs, spec.Layers); err != nil {
		return err
	}
	timing.done("rootfs")
	var err error
	if rec.User, err = r.writeBundle(spec, shared, dir, rootfs); err != nil {
		return err
	}
	timing.done("bundle")
	pid, err := r.runConmon(ctx, spec, dir)
	if err != nil {
		return err
	}
	timing.done("create")
	now, err := readProcState(pid)
	if err != nil {
		return fmt.Errorf("%w: %w", errEndedBeforeStart, err)
	}
	rec.Pid, rec.BootID, rec.StartTicks = pid, r.boot, now.startTicks
	unmounted := make(chan error, 1)
	go func() { unmounted <- r.unmountRoot(rec.ID) }() // the container has its own view by now
	err = r.release(ctx, rec)
	if unmountErr := <-unmounted; err == nil && unmountErr != nil {
		return unmountErr
	}
	if err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	timing.done("start")
	rec.Phase, rec.StartedAt = agent.ContainerRunning, time.Now()
	if err := writeRecord(dir, *rec); err != nil {
		rec.Phase = phaseCreating
		return err
	}
	timing.done("record")
	return nil
}

// writeBundle writes config.json and returns whom the first process begins as.
func (r *Runtime) writeBundle(spec *agent.ContainerSpec, shared joined, dir, rootfs string) (*corev1.LinuxContainerUser, error) {
	who, err := lookupUser(rootfs, spec.User)
	if err != nil {
		return nil, err
	}
	on := host{
		rootfs:       rootfs,
		shared:       shared,
		cgroupsPath:  r.cgroups.container(classOf(spec.Pod.QOS), spec.PodUID, spec.ID),
		unified:      r.cgroups.unified,
		oomGroup:     r.cgroups.unified && slices.Contains(r.cgroups.present, "memory"),
		memsw:        r.cgroups.memsw,
		user:         who,
		capabilities: r.held,
		oomScoreAdj:  r.oomScoreAdj,
		appArmor:     appArmorEnabled(),
		x32:          r.x32,
	}
	if spec.Security.Privileged {
		if on.devices, err = hostDevices(); err != nil {
			return nil, fmt.Errorf("devices of this machine: %w", err)
		}
	}
	config, notes, err := buildSpec(spec, on)
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		r.log.Warn("Container gets less than it asks for", "container", spec.ID, "what", note)
	}
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return userOf(config.Process.User), os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
}

// stages keeps how long each part of a start took.
type stages struct {
	began, last time.Time
	parts       []slog.Attr
}

// done ends a part.
func (s *stages) done(name string) {
	now := time.Now()
	s.parts = append(s.parts, slog.Duration(name, now.Sub(s.last)))
	s.last = now
}

// attrs are the parts and their sum, to be logged.
func (s *stages) attrs() []any {
	attrs := []any{slog.Duration("total", s.last.Sub(s.began))}
	for _, part := range s.parts {
		attrs = append(attrs, part)
	}
	return attrs
}
