package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"windlass.dev/windlass/internal/agent"
)

// maxExecOutput is how much of a command's output is kept, in bytes: as much as
// Kubernetes keeps of a probe's.
const maxExecOutput = 10 << 10

// Exec runs a command in a running container, as the user and with the
// environment and capabilities of the container's own, and returns its exit code
// and its output, standard and error together, cut at 10 KiB. When ctx ends
// first, the command is killed with its session and ctx's error returned. A
// command that cannot be started, or a container that does not run, is an error.
func (r *Runtime) Exec(ctx context.Context, id string, command []string) (int, []byte, error) {
	if len(command) == 0 {
		return 0, nil, errors.New("exec: no command")
	}
	if _, err := r.running(id); err != nil {
		return 0, nil, fmt.Errorf("exec: %w", err)
	}
	scratch, err := os.MkdirTemp(filepath.Join(r.dataDir, "run"), "exec-")
	if err != nil {
		return 0, nil, fmt.Errorf("exec: %w", err)
	}
	defer os.RemoveAll(scratch)
	pidFile := filepath.Join(scratch, "pid")
	var output limitedBuffer
	cmd := r.command(ctx, append([]string{"exec", "--pid-file", pidFile, id}, command...)...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error {
		if killExec(pidFile) {
			return nil // the OCI runtime reaps it and ends; WaitDelay bounds that
		}
		return cmd.Process.Kill()
	}
	cmd.WaitDelay = 200 * time.Millisecond // a process left in the background may hold the output
	err = cmd.Run()
	if ctx.Err() != nil {
		killExec(pidFile) // it may have come into being while we killed
		return 0, output.bytes(), fmt.Errorf("exec: %w", context.Cause(ctx))
	}
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return cmd.ProcessState.ExitCode(), output.bytes(), nil
	case errors.As(err, &exit) && exists(pidFile): // else it was never started
		return exit.ExitCode(), output.bytes(), nil
	default:
		return 0, output.bytes(), fmt.Errorf("exec: %w: %s", err, tidyRuntimeError(string(output.bytes())))
	}
}

// running returns the record of a container, or why nothing can be run in it.
func (r *Runtime) running(id string) (record, error) {
	c := r.find(id)
	if c == nil {
		return record{}, fmt.Errorf("container %s does not exist", id)
	}
	rec := c.rec
	c.mu.Unlock()
	if rec.Phase != agent.ContainerRunning || !rec.alive(r.boot) {
		return record{}, fmt.Errorf("container %s does not run", id)
	}
	return rec, nil
}

// killExec kills the process that the OCI runtime has started in a container,
// and what shares its session. It tells whether there was one.
func killExec(pidFile string) bool { return signalExec(pidFile, syscall.SIGKILL) }

// signalExec sends a signal to the process that the OCI runtime has started in a
// container, and to what shares its session. It tells whether there was one.
func signalExec(pidFile string, signal syscall.Signal) bool {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return false
	}
	_ = syscall.Kill(-pid, signal) // it leads a session and group of its own
	return syscall.Kill(pid, signal) == nil
}

// limitedBuffer keeps the first maxExecOutput bytes written to it.
type limitedBuffer struct {
	mu   sync.Mutex
	kept []byte
}

// Write takes everything and keeps what there is room for.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p[:min(len(p), maxExecOutput-len(b.kept))]...)
	return len(p), nil
}

func (b *limitedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept
}
