package oci

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"windlass.dev/windlass/internal/agent"
)

// podSpec is a container of the pod "shared".
func (m *machine) podSpec(command string, pid, ipc agent.Scope) agent.ContainerSpec {
	spec := m.spec(command)
	spec.PodUID, spec.PID, spec.IPC = "uid-shared", pid, ipc
	return spec
}

// in runs a command in a container and returns its output.
func (m *machine) in(c agent.Container, command string) string {
	m.t.Helper()
	code, output, err := m.Exec(context.Background(), c.ID, []string{"sh", "-c", command})
	if err != nil || code != 0 {
		m.t.Fatalf("%s: code %d, %v: %s", command, code, err, output)
	}
	return strings.TrimSpace(string(output))
}

// eventually waits until something holds.
func (m *machine) eventually(what string, holds func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("not in time: %s", what)
		}
	}
}

// TestSharedProcesses: containers of a pod with one process namespace see each
// other's processes; its first process is none of theirs, reaps what they leave,
// and outlives any of them; what a container leaves behind ends with it.
func TestSharedProcesses(t *testing.T) {
	m := newMachine(t)
	m.run()
	one := m.start(m.podSpec("sleep 600 & (sleep 0.2 &); sleep 601; true", agent.ScopePod, agent.ScopePod))
	two := m.start(m.podSpec("sleep 602; true", agent.ScopePod, agent.ScopePod))
	if all := m.in(two, "ps -o pid,args"); !strings.Contains(all, "sleep 600") || !strings.Contains(all, "sleep 602") {
		t.Errorf("processes: %s", all)
	}
	if first := m.in(one, "tr '\\0' ' ' < /proc/1/cmdline"); first != "/pause" {
		t.Errorf("the first process is %q", first)
	}
	m.eventually("the orphan is reaped", func() bool {
		return m.in(two, "ps -o args | grep -c '^sleep 0.2' || true") == "0" && !strings.Contains(m.in(two, "ps -o stat"), "Z")
	})
	if code, _, err := m.Exec(context.Background(), two.ID, []string{"sh", "-c", "kill -9 1; kill -TERM 1; sleep 0.1; test -d /proc/1"}); code != 0 || err != nil {
		t.Errorf("the first process was ended from inside: code %d, %v", code, err)
	}
	list, err := m.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("listed %v, %v", list, err)
	}

	// The end of a container takes the processes that it has left behind along.
	pids := m.cgroups.processes(m.cgroups.container("", one.PodUID, one.ID))
	if err := m.Signal(t.Context(), one.ID, 9); err != nil {
		t.Fatal(err)
	}
	m.exit(one.ID)
	m.eventually("nothing is left of the first", func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool { _, err := readProcState(pid); return err == nil })
	})
	again := m.start(m.podSpec("sleep 603; true", agent.ScopePod, agent.ScopePod))
	if all := m.in(again, "ps -o pid,args"); !strings.Contains(all, "sleep 602") || strings.Contains(all, "sleep 600") {
		t.Errorf("processes after a restart: %s", all)
	}

	// A server that starts anew finds it, and takes it away with the last container.
	m.reopen()
	m.run()
	for _, c := range []agent.Container{one, two, again} {
		if m.find(pausePrefix+one.PodUID) == nil {
			t.Fatalf("the first process ended before %s", c.ID)
		} else {
			m.containers[pausePrefix+one.PodUID].mu.Unlock()
		}
		if err := m.Remove(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
	m.nothingLeft(pausePrefix + one.PodUID)
	if len(m.shares) != 0 {
		t.Errorf("left: %v", m.shares)
	}
}

// TestNestedGroups: what a container has moved to control groups of its own, as a
// privileged one may, ends with it as well.
func TestNestedGroups(t *testing.T) {
	m := newMachine(t)
	m.run()
	c := m.start(m.podSpec("sleep 600 & sleep 601; true", agent.ScopePod, agent.ScopePod))
	group := m.cgroups.container("", c.PodUID, c.ID)
	sleeps := func(pid int) bool { return slices.Contains(processesNaming(t, "600"), pid) }
	m.eventually("it runs", func() bool { return slices.ContainsFunc(m.cgroups.processes(group), sleeps) })
	pids := m.cgroups.processes(group)
	moved := pids[slices.IndexFunc(pids, sleeps)]
	for _, root := range m.cgroups.mounts {
		dir := filepath.Join(root, group)
		if !exists(dir) {
			continue // what runc does not know of it leaves out
		}
		if err := os.Mkdir(filepath.Join(dir, "own"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := writeGroup(filepath.Join(dir, "own"), []groupFile{{"cgroup.procs", strconv.Itoa(moved)}}); err != nil {
			t.Log(err) // cpuset of v1 has to be set up first
		}
	}
	if err := m.Remove(t.Context(), c.ID); err != nil {
		t.Error(err)
	}
	if sleeps(moved) {
		t.Error("a process is left")
	}
	m.nothingLeft(c.ID)
}

// TestPauseWithoutPod: what a crash has left of a pod's first process goes when
// the containers are listed.
func TestPauseWithoutPod(t *testing.T) {
	m := newMachine(t)
	stop := m.run()
	spec := m.podSpec("true", agent.ScopePod, agent.ScopePod)
	if _, err := m.startPause(t.Context(), &spec); err != nil {
		t.Fatal(err)
	}
	stop()
	m.reopen()
	if list, err := m.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("listed %v, %v", list, err)
	}
	m.nothingLeft(pausePrefix + spec.PodUID)
}

// TestScopes: who shares what with whom.
func TestScopes(t *testing.T) {
	m := newMachine(t)
	m.run()
	own := func(kind string) string {
		link, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	see := func(c agent.Container, kind string) string { return m.in(c, "readlink /proc/self/ns/"+kind) }

	// Those that start at the same time too.
	var pod [3]agent.Container
	var starts sync.WaitGroup
	for i := range pod {
		spec := m.podSpec("sleep 600; true", agent.ScopeOwn, agent.ScopePod)
		starts.Go(func() {
			var err error
			if pod[i], err = m.Start(context.Background(), spec); err != nil {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	if see(pod[0], "ipc") != see(pod[1], "ipc") || see(pod[1], "ipc") != see(pod[2], "ipc") || see(pod[0], "ipc") == own("ipc") {
		t.Errorf("ipc: %s, %s, %s; the node's is %s", see(pod[0], "ipc"), see(pod[1], "ipc"), see(pod[2], "ipc"), own("ipc"))
	}
	if see(pod[0], "pid") == see(pod[1], "pid") || see(pod[0], "pid") == own("pid") {
		t.Errorf("pid: %s, %s; the node's is %s", see(pod[0], "pid"), see(pod[1], "pid"), own("pid"))
	}
	// All may end at the same time, and the server may start anew while one runs.
	namespace := see(pod[0], "ipc")
	for _, c := range pod[:2] {
		if err := m.Signal(t.Context(), c.ID, 9); err != nil {
			t.Fatal(err)
		}
		m.exit(c.ID)
	}
	m.reopen()
	m.run()
	if err := m.Signal(t.Context(), pod[2].ID, 9); err != nil {
		t.Fatal(err)
	}
	m.exit(pod[2].ID)
	later := m.start(m.podSpec("sleep 600; true", agent.ScopeOwn, agent.ScopePod))
	if see(later, "ipc") != namespace {
		t.Errorf("after a restart ipc is %s, was %s", see(later, "ipc"), namespace)
	}
	other := m.start(m.spec("sleep 600; true"))
	if see(other, "ipc") == namespace {
		t.Error("another pod shares the namespace")
	}
	node := m.start(m.podSpec("sleep 600; true", agent.ScopeHost, agent.ScopeHost))
	if see(node, "ipc") != own("ipc") || see(node, "pid") != own("pid") {
		t.Errorf("the node's are %s and %s, not %s and %s", own("ipc"), own("pid"), see(node, "ipc"), see(node, "pid"))
	}
	for _, c := range append(pod[:], later, other, node) {
		if err := m.Remove(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		m.nothingLeft(c.ID)
	}
}

// TestNewIPCNamespace: one is made on any thread but the first, by which the
// process is known.
func TestNewIPCNamespace(t *testing.T) {
	needContainers(t)
	before, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		file, err := newIPCNamespace()
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	if after, err := os.Readlink("/proc/self/ns/ipc"); err != nil || after != before {
		t.Errorf("the process was in %s, is in %s, %v", before, after, err)
	}
}

// TestPauseProgram: the program is a sound executable for each architecture.
func TestPauseProgram(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		program, err := pauseProgram(arch)
		if err != nil {
			t.Fatal(err)
		}
		file, err := elf.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		load := file.Progs[0]
		if file.Machine != machine || file.Type != elf.ET_EXEC || len(file.Progs) != 1 || load.Filesz != uint64(len(program)) || file.Entry != load.Vaddr+120 {
			t.Errorf("%s: %+v, %+v", arch, file.FileHeader, load.ProgHeader)
		}
		action := program[len(program)-32:]
		if binary.LittleEndian.Uint64(action) != 1 || (len(program)-32)%8 != 0 {
			t.Errorf("%s: the action is %v, at %d", arch, action, len(program)-32)
		}
	}
	if _, err := pauseProgram("mips"); err == nil {
		t.Error("there is a program for mips")
	}
}
