package oci

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"windlass.dev/windlass/internal/agent"
)

const busybox = "/bin/busybox"

func needContainers(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	if err := Check(Config{DataDir: t.TempDir()}); err != nil {
		t.Skip("containers cannot run here: ", err)
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("the containers are of busybox: apt-get install busybox-static: ", err)
	}
}

type machine struct {
	*Runtime
	t      *testing.T
	dir    string
	layers []string
	seq    int
}

func newMachine(t *testing.T) *machine {
	needContainers(t)
	m := &machine{t: t, dir: t.TempDir(), layers: busyboxLayers(t)}
	m.reopen()
	t.Cleanup(func() {
		list, err := m.List(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, c := range list {
			if err := m.Remove(context.Background(), c.ID); err != nil {
				t.Error(err)
			}
		}
		m.removeGroups()
	})
	return m
}

func (m *machine) removeGroups() {
	for _, root := range m.cgroups.mounts {
		if err := removeGroup(filepath.Join(root, m.cgroups.prefix)); err != nil {
			m.t.Error("left in the data directory's control group: ", err)
		}
	}
}

func (m *machine) reopen() {
	m.t.Helper()
	log := slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := New(Config{DataDir: m.dir, Log: log})
	if err != nil {
		m.t.Fatal(err)
	}
	m.Runtime = r
}

func (m *machine) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func(r *Runtime) { done <- r.Run(ctx) }(m.Runtime)
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Error(err)
		}
	})
	m.t.Cleanup(stop)
	return stop
}

func (m *machine) spec(command string) agent.ContainerSpec {
	m.seq++
	id := fmt.Sprintf("c%d", m.seq)
	return agent.ContainerSpec{
		ID: id, PodUID: "uid-" + id, Name: "main", Image: "busybox", ImageID: "sha256:0",
		Layers: m.layers, Hostname: "pod-" + id, LogPath: filepath.Join(m.dir, "logs", id, "0.log"),
		Args: []string{"sh", "-c", command}, Env: []string{"COLOR=blue"}, WorkingDir: "/",
	}
}

func (m *machine) start(spec agent.ContainerSpec) agent.Container {
	m.t.Helper()
	c, err := m.Start(context.Background(), spec)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *machine) exit(id string) agent.Container {
	m.t.Helper()
	for {
		select {
		case c := <-m.Exits():
			if c.ID == id {
				return c
			}
		case <-time.After(20 * time.Second):
			m.t.Fatalf("no end of %s", id)
		}
	}
}

func (m *machine) output(spec agent.ContainerSpec) string {
	m.t.Helper()
	m.start(spec)
	c := m.exit(spec.ID)
	text := logText(m.t, spec.LogPath)
	if c.ExitCode != 0 {
		m.t.Fatalf("exit code %d: %s", c.ExitCode, text)
	}
	return text
}

func logText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		// 2016-10-06T00:17:09.669794202Z stdout F content
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 {
			t.Fatalf("log line %q", line)
		}
		text.WriteString(fields[3])
	}
	return text.String()
}

func busyboxLayers(t *testing.T) []string {
	t.Helper()
	base, top := filepath.Join(t.TempDir(), "a,b:c", "base"), filepath.Join(t.TempDir(), "top")
	for _, dir := range []string{base + "/bin", base + "/etc", base + "/tmp", top + "/etc"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(base+"/bin/busybox", data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields("sh sleep cat id hostname mount ls touch env kill head tail wc true false grep ip dd seq stat yes tr") {
		if err := os.Symlink("busybox", base+"/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, base+"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/srv:/bin/sh\n")
	writeFile(t, base+"/etc/group", "root:x:0:\nweb:x:1001:\nlogs:x:1002:web\n")
	writeFile(t, base+"/etc/layer", "base")
	writeFile(t, top+"/etc/layer", "top\n")
	return []string{top, base}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) groupFile(spec agent.ContainerSpec, name string) string {
	m.t.Helper()
	for _, root := range m.cgroups.mounts {
		if data, err := os.ReadFile(filepath.Join(root, m.cgroups.container("", spec.PodUID, spec.ID), name)); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	m.t.Fatalf("no %s", name)
	return ""
}

func (m *machine) refused(spec agent.ContainerSpec, reason string) {
	m.t.Helper()
	_, err := m.Start(context.Background(), spec)
	if err == nil || !strings.Contains(err.Error(), reason) {
		m.t.Errorf("the error does not name %s: %v", reason, err)
	}
	m.t.Logf("refused: %v", err)
	m.nothingLeft(spec.ID)
}

func (m *machine) nothingLeft(id string) {
	m.t.Helper()
	for _, path := range []string{m.containerDir(id), filepath.Join(m.exitDir(), id), filepath.Join(m.stateDir(), id)} {
		if exists(path) {
			m.t.Errorf("%s is left", path)
		}
	}
	for _, root := range m.cgroups.mounts {
		if exists(filepath.Join(root, m.cgroups.pod("", "uid-"+id))) {
			m.t.Errorf("a control group of %s is left in %s", id, root)
		}
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		m.t.Fatal(err)
	}
	if strings.Contains(string(mountinfo), m.containerDir(id)+"/") {
		m.t.Errorf("a mount of %s is left", id)
	}
	if pids := processesNaming(m.t, m.containerDir(id)); len(pids) > 0 {
		m.t.Errorf("processes %v of %s are left", pids, id)
	}
}

func processesNaming(t *testing.T, text string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && pid != os.Getpid() && bytes.Contains(data, []byte(text+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

func commandLines(t *testing.T, m *machine, spec agent.ContainerSpec) string {
	t.Helper()
	var text strings.Builder
	for _, pid := range m.cgroups.processes(m.cgroups.container("", spec.PodUID, spec.ID)) {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		text.Write(data)
	}
	return text.String()
}
