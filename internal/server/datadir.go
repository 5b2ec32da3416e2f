package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/oci"
)

// begin runs a process on its data directory: it makes sure that the machine has
// what containers need, if any are to run, and that no other process has the
// directory, which it makes when it is not there, and holds while run runs.
func (o *NodeOptions) begin(containers bool, run func() error) (err error) {
	if containers {
		if err := oci.Check(oci.Config{DataDir: o.DataDir, RuntimePath: o.Runtime}); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	held, err := lockDataDir(o.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	leanMemory()
	routeLogs(o.Log)
	return run()
}

// lock is the hold of one process on a data directory. The kernel lets go of
// it when the process ends, however it ends.
type lock struct{ file *os.File }

// lockDataDir takes the data directory dir for this process, or fails and says
// which process has it.
func lockDataDir(dir string) (*lock, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		_ = file.Close()
		return nil, fmt.Errorf("data directory %s is in use by %s: stop that one, or give another --data-dir", dir, describeHolder(holder))
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	holder := fmt.Sprintf("process %d, started %s", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if err := errors.Join(file.Truncate(0), writeAt(file, holder)); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &lock{file: file}, nil
}

// release lets go of the data directory.
func (l *lock) release() error { return l.file.Close() }

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

func describeHolder(content []byte) string {
	if text := strings.TrimSpace(string(content)); text != "" {
		return "another windlass: " + text
	}
	return "another windlass"
}
