package oci

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/podlog"
)

// LogLimits say how much of a container's log is kept.
type LogLimits struct {
	Bytes int64 // from when on a file is rotated
	Files int   // at most, 2 at least
}

// DefaultLogLimits are the kubelet's.
var DefaultLogLimits = LogLimits{Bytes: 10 << 20, Files: 5}

// How often the sizes of logs are looked at, and how often while one grows by a
// file and more from one look to the next.
const (
	lookAtLogs      = time.Second
	lookAtLogsAgain = 50 * time.Millisecond
)

// askPatience is how long a rotation that another process has begun is left to
// conmon, which that one may have asked just before its end.
const askPatience = 2 * time.Second

// rotation is how far this process has come with one.
type rotation struct {
	seen  time.Time // since when it knows of it
	asked bool      // conmon, to reopen the log
}

// keepLogs rotates the logs of running containers until ctx ends.
func (r *Runtime) keepLogs(ctx context.Context) {
	under := map[string]rotation{} // under way, by container
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := lookAtLogs
		running := map[string]bool{}
		for _, rec := range r.runningRecords() {
			running[rec.ID] = true
			rotated, err := r.keepLog(rec, under)
			if err != nil {
				r.log.Warn("Rotating the log of a container", "container", rec.ID, "err", err)
			}
			if rotated {
				next = lookAtLogsAgain
			}
		}
		for id := range under {
			if !running[id] {
				delete(under, id)
			}
		}
		timer.Reset(next)
	}
}

// keepLog takes the rotation of a container's log one step on: a second name for
// its file, conmon is told to begin another, and once it has, the oldest go. It
// tells whether there is more to do soon. What has been done is seen from the
// files; under only keeps conmon from being asked twice, for it would lose what it
// has written in between.
func (r *Runtime) keepLog(rec record, under map[string]rotation) (soon bool, err error) {
	rotating, err := podlog.Rotating(rec.LogPath)
	if err != nil {
		return false, ignoreAbsent(err)
	}
	known, is := under[rec.ID]
	switch {
	case rotating && !is:
		under[rec.ID] = rotation{seen: time.Now()}
		return true, nil
	case rotating && (known.asked || time.Since(known.seen) < askPatience):
		return true, nil
	case rotating:
		return true, r.askForNewLog(rec, under)
	case is:
		delete(under, rec.ID)
		return true, podlog.Prune(rec.LogPath, r.logs.Files, int64(r.logs.Files)*r.logs.Bytes)
	}
	info, err := os.Stat(rec.LogPath)
	if err != nil || info.Size() < r.logs.Bytes {
		return false, ignoreAbsent(err)
	}
	if err := podlog.Rotate(rec.LogPath); err != nil {
		return false, err
	}
	return true, r.askForNewLog(rec, under)
}

// askForNewLog tells a container's conmon to begin another file.
func (r *Runtime) askForNewLog(rec record, under map[string]rotation) error {
	under[rec.ID] = rotation{seen: time.Now(), asked: true}
	return tellConmon(r.containerDir(rec.ID), "2 0 0\n")
}

// ignoreAbsent: the pod is being taken away.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// runningRecords returns the records of the containers that run, but for those
// that are being started or removed.
func (r *Runtime) runningRecords() []record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []record
	for _, c := range r.containers {
		if !c.mu.TryLock() {
			continue
		}
		if !c.gone && c.rec.Phase == agent.ContainerRunning {
			list = append(list, c.rec)
		}
		c.mu.Unlock()
	}
	return list
}
