package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// errEndedBeforeStart: what the OCI runtime has created has ended by itself.
var errEndedBeforeStart = errors.New("the container's process ended before its start")

// release has the process of a container that is created go on to its command.
//
// A process that runc has created waits for somebody to read from a pipe,
// exec.fifo, beside runc's state. Its start command does no more than that and
// taking the pipe away, which is how it tells later that the container runs; doing
// it here spares a process, the eighth part of what a pod's start takes. Other OCI
// runtimes keep no state.json beside such a pipe: they are asked.
func (r *Runtime) release(ctx context.Context, rec *record) error {
	state := filepath.Join(r.stateDir(), rec.ID)
	pipe := filepath.Join(state, "exec.fifo")
	if exists(filepath.Join(state, "state.json")) && isPipe(pipe) {
		if err := r.readRelease(pipe, rec); err != nil {
			return err
		}
		return os.Remove(pipe)
	}
	out, err := r.command(ctx, "start", rec.ID).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, tidyRuntimeError(string(out)))
	}
	return nil
}

// readRelease reads what a process that is created writes once its pipe has a reader.
func (r *Runtime) readRelease(pipe string, rec *record) error {
	process, err := rec.openProcess(r.boot)
	if err != nil {
		return err
	}
	if process < 0 {
		return errEndedBeforeStart
	}
	defer unix.Close(process)
	reader, err := unix.Open(pipe, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: pipe, Err: err}
	}
	defer unix.Close(reader)
	for deadline := time.Now().Add(createLimit); ; {
		fds := []unix.PollFd{{Fd: int32(reader), Events: unix.POLLIN}, {Fd: int32(process), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline)).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for the container's process: %w", err)
		case n == 0:
			return fmt.Errorf("the container's process %d does not go on within %v", rec.Pid, createLimit)
		}
		var said [8]byte
		if n, err := unix.Read(reader, said[:]); err == nil && n > 0 {
			return nil
		}
		if fds[1].Revents != 0 {
			return errEndedBeforeStart
		}
	}
}

func isPipe(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}
