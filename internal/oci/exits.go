package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"windlass.dev/windlass/internal/agent"
)

// lookAgain is how often Run looks for containers that ended without an exit
// file, which takes the death of their conmon.
const lookAgain = 5 * time.Second

// Exits delivers the record of each container that has ended, once, in the order
// in which the ends were seen, while Run runs. A container whose end List or Start
// saw first is delivered too.
func (r *Runtime) Exits() <-chan agent.Container { return r.exits }

// Run watches for the ends of containers and delivers them to Exits, and rotates
// the logs of those that run, until ctx ends. Call it once, and no Start after it: it takes the data directory's empty
// control groups away.
func (r *Runtime) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch exits: %w", err)
	}
	defer watcher.Close()
	if err := watcher.Add(r.exitDir()); err != nil {
		return fmt.Errorf("watch exits: %w", err)
	}
	defer r.Tidy()
	var logs sync.WaitGroup
	defer logs.Wait()
	logs.Go(func() { r.keepLogs(ctx) })
	r.settleAll() // those that ended before the watch
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		next, first := r.ended.first()
		out := r.exits
		if !first {
			out = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case out <- next:
			r.ended.drop()
		case <-r.ended.signal():
		case event := <-watcher.Events:
			if event.Has(fsnotify.Create) || event.Has(fsnotify.Write) {
				r.lookAt(filepath.Base(event.Name))
			}
		case err := <-watcher.Errors:
			// Its queue overflowed: some events are lost.
			r.log.Warn("Watching exits", "err", err)
			r.settleAll()
		case <-tick.C:
			r.settleAll()
		}
	}
}

// settleAll looks at every container.
func (r *Runtime) settleAll() {
	r.mu.Lock()
	ids := make([]string, 0, len(r.containers))
	for id := range r.containers {
		ids = append(ids, id)
	}
	r.mu.Unlock()
	for _, id := range ids {
		r.lookAt(id)
	}
}

// lookAt settles a container, unless a Start or Remove holds it: they look themselves.
func (r *Runtime) lookAt(id string) {
	r.mu.Lock()
	c := r.containers[id]
	r.mu.Unlock()
	if c == nil || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if !c.gone {
		r.settle(c)
	}
}

// settle brings the record of a running container up to date when its process
// has ended. The lock is held.
func (r *Runtime) settle(c *container) {
	if c.rec.Phase != agent.ContainerRunning {
		return
	}
	code, at, err := readExit(filepath.Join(r.exitDir(), c.rec.ID))
	switch {
	case err == nil:
	case !errors.Is(err, os.ErrNotExist):
		r.log.Error("Reading the exit code of a container", "container", c.rec.ID, "err", err)
		return
	case c.rec.alive(r.boot):
		return
	case c.rec.BootID == r.boot && conmonPid(r.containerDir(c.rec.ID), c.rec.ID) != 0:
		return // which is about to write the exit file
	default:
		// Conmon may have written it between the two looks.
		if code, at, err = readExit(filepath.Join(r.exitDir(), c.rec.ID)); err != nil {
			code, at = lostExitCode, time.Now()
		}
	}
	ended := c.rec
	ended.Phase, ended.Pid, ended.FinishedAt, ended.ExitCode = agent.ContainerExited, 0, at, code
	ended.OOMKilled = code != 0 && (exists(filepath.Join(r.containerDir(c.rec.ID), "oom")) || r.cgroups.oomKilled(r.cgroups.group(&c.rec)))
	if err := writeRecord(r.containerDir(c.rec.ID), ended); err != nil {
		// It can be found out again, the OOM kill included, until Remove.
		r.log.Error("Writing the record of an ended container", "container", c.rec.ID, "err", err)
	}
	c.rec = ended
	if ended.SharedPID { // the end of its first process is not the end of the others
		if err := r.cgroups.kill(r.cgroups.group(&ended)); err != nil {
			r.log.Error("Ending what a container has left behind", "container", ended.ID, "err", err)
		}
	}
	r.log.Debug("Container ended", "container", c.rec.ID, "exitCode", code, "oomKilled", c.rec.OOMKilled)
	if !isPause(ended.ID) {
		r.ended.add(r.present(&ended))
	}
}

// present is what the agent is told of a record.
func (r *Runtime) present(rec *record) agent.Container {
	c := rec.Container
	c.EarlierBoot = rec.BootID != "" && rec.BootID != r.boot
	return c
}

// readExit reads a container's exit code and when it was written.
func readExit(path string) (code int, at time.Time, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, time.Time{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, time.Time{}, err
	}
	code, err = parseExitCode(data)
	return code, info.ModTime(), err
}

// queue holds ends until somebody takes them. Its zero value is ready.
type queue struct {
	mu      sync.Mutex
	waiting []agent.Container
	wake    chan struct{}
}

func (q *queue) add(c agent.Container) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, c)
	select {
	case q.signalLocked() <- struct{}{}:
	default:
	}
}

// first returns the oldest end, if there is one.
func (q *queue) first() (agent.Container, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return agent.Container{}, false
	}
	return q.waiting[0], true
}

// drop takes the oldest end off.
func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = q.waiting[1:]
}

// signal is sent to when an end is added.
func (q *queue) signal() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.signalLocked()
}

func (q *queue) signalLocked() chan struct{} {
	if q.wake == nil {
		q.wake = make(chan struct{}, 1)
	}
	return q.wake
}
