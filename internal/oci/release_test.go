package oci

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A container that has been started is a running one to runc too: it would refuse
// to run commands in one that it takes for created.
func TestReleasedRuns(t *testing.T) {
	m := newMachine(t)
	m.run()
	c := m.start(m.spec("sleep 1000"))
	out, err := m.command(context.Background(), "state", c.ID).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"status": "running"`) {
		t.Errorf("%s, %v", out, err)
	}
	if exists(filepath.Join(m.stateDir(), c.ID, "exec.fifo")) {
		t.Error("the pipe is still there")
	}
}

// A process that ends instead of going on holds up nobody.
func TestReleaseOfAnEndedProcess(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &Runtime{dataDir: dir, boot: boot}
	state := filepath.Join(r.stateDir(), "c")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(state, "state.json"), nil, 0o600), unix.Mkfifo(filepath.Join(state, "exec.fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	process := exec.Command("sleep", "1000")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	now, err := readProcState(process.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	rec := record{BootID: boot, StartTicks: now.startTicks}
	rec.ID, rec.Pid = "c", process.Process.Pid
	waited := make(chan error, 1)
	go func() { waited <- r.release(context.Background(), &rec) }()
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	if err := <-waited; !errors.Is(err, errEndedBeforeStart) {
		t.Errorf("got %v", err)
	}
	if err := r.release(context.Background(), &rec); !errors.Is(err, errEndedBeforeStart) {
		t.Errorf("ended before: got %v", err)
	}
}

// Other OCI runtimes are asked to start what they have created.
func TestReleaseByCommand(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "runtime")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" >"+dir+"/asked\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := &Runtime{dataDir: dir, runtimePath: program}
	rec := record{}
	rec.ID = "c"
	if err := r.release(context.Background(), &rec); err != nil {
		t.Fatal(err)
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if want := "--root " + r.stateDir() + " start c\n"; err != nil || string(asked) != want {
		t.Errorf("asked %q, want %q, %v", asked, want, err)
	}
}

// What still creates a container whose conmon is gone has ended when its files are deleted.
func TestEndOfCreation(t *testing.T) {
	dir := t.TempDir()
	creating, other := exec.Command("sh", "-c", "read x", dir), exec.Command("sh", "-c", "read x", dir+"2")
	for _, cmd := range []*exec.Cmd{creating, other} {
		if _, err := cmd.StdinPipe(); err != nil { // which never says anything
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		for pid := cmd.Process.Pid; !names(pid, cmd.Args[3]); {
			runtime.Gosched() // it is not sh yet
		}
	}
	endCreation(dir)
	if state, err := readProcState(creating.Process.Pid); err == nil && state.state != 'Z' {
		t.Errorf("it goes on, in state %c", state.state)
	}
	if state, err := readProcState(other.Process.Pid); err != nil || state.state == 'Z' {
		t.Errorf("one that has nothing to do with it was ended: %v", err)
	}
}
