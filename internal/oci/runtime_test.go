package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

const busybox = "/bin/busybox"

// needContainers skips a test where containers cannot run.
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

// machine is a data directory with a Runtime and the layers of a busybox image.
type machine struct {
	*Runtime
	t      *testing.T
	dir    string
	layers []string
	log    *bytes.Buffer
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

// removeGroups deletes the control groups of the data directory itself, which
// only an uninstallation would.
func (m *machine) removeGroups() {
	for _, root := range m.cgroups.mounts {
		if err := removeGroup(filepath.Join(root, m.cgroups.prefix)); err != nil {
			m.t.Error("left in the data directory's control group: ", err)
		}
	}
}

// reopen is what a restart of the server does, as far as this package sees it.
func (m *machine) reopen() {
	m.t.Helper()
	log := slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := New(Config{DataDir: m.dir, Log: log})
	if err != nil {
		m.t.Fatal(err)
	}
	m.Runtime = r
}

// run starts Run, until the test or stop ends.
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

// spec is one of a busybox container that runs a shell command.
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

// exit waits for the end of a container.
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

// output runs a command in a container of its own to its end and returns its log's texts.
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

// busyboxLayers makes an image of two layers, topmost first.
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

func TestStart(t *testing.T) {
	m := newMachine(t)
	m.run()
	t.Run("environment", func(t *testing.T) {
		spec := m.spec("cat /etc/layer; hostname; echo $COLOR; echo $HOME; id -u; echo $$")
		if got, want := m.output(spec), "top\npod-"+spec.ID+"\nblue\n/root\n0\n1\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("user", func(t *testing.T) {
		spec := m.spec("id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status")
		spec.User = "web"
		spec.Security.SupplementalGroups = []int64{2000}
		if got, want := m.output(spec), "1000\n1001\n1001 1002 2000\n/srv\nCapEff:\t0000000000000000\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("unknown user", func(t *testing.T) {
		spec := m.spec("true")
		spec.User = "nobody-here"
		m.refused(spec, "nobody-here")
	})
	t.Run("mounts", func(t *testing.T) {
		dir := t.TempDir()
		writeFile(t, dir+"/f", "from the host\n")
		spec := m.spec("cat /data/ro/f; echo x > /data/rw/g; touch /data/ro/x 2>/dev/null || echo denied; cat /etc/hosts")
		spec.Mounts = []agent.Mount{
			{Source: dir, Destination: "/data/ro", ReadOnly: true},
			{Source: dir, Destination: "/data/rw"},
			{Source: dir + "/f", Destination: "/etc/hosts", ReadOnly: true},
		}
		if got, want := m.output(spec), "from the host\ndenied\nfrom the host\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if data, err := os.ReadFile(dir + "/g"); err != nil || string(data) != "x\n" {
			t.Errorf("written through the mount: %q, %v", data, err)
		}
	})
	t.Run("read-only root", func(t *testing.T) {
		spec := m.spec("touch /x 2>/dev/null || echo denied")
		spec.Security.ReadOnlyRootFilesystem = true
		if got := m.output(spec); got != "denied\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("seccomp and no new privileges", func(t *testing.T) {
		spec := m.spec("grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status")
		spec.Security.NoNewPrivileges = true
		if got := m.output(spec); got != "NoNewPrivs:\t1\nSeccomp:\t2\n" {
			t.Errorf("got %q", got)
		}
		spec = m.spec("grep -E '^Seccomp:' /proc/self/status")
		spec.Security.SeccompUnconfined = true
		if got := m.output(spec); got != "Seccomp:\t0\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("privileged", func(t *testing.T) {
		spec := m.spec("ls /dev/null /dev/full; touch /sys/x 2>&1 | grep -c Read-only || true")
		spec.Security.Privileged = true
		if got := m.output(spec); got != "/dev/full\n/dev/null\n0\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		spec := m.spec("test -t 1 && echo terminal")
		spec.TTY = true
		if got := m.output(spec); got != "terminal\r\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("resources", func(t *testing.T) {
		spec := m.spec("sleep 1000")
		spec.Resources = agent.Resources{CPUShares: 512, CPUQuota: 20000, CPUPeriod: 100000, MemoryLimit: 64 << 20, PidsLimit: 77, OOMScoreAdj: -998}
		c := m.start(spec)
		values := map[string]string{"cpu.shares": "512", "cpu.cfs_quota_us": "20000", "cpu.cfs_period_us": "100000", "memory.limit_in_bytes": "67108864", "pids.max": "77"}
		if m.cgroups.unified {
			values = map[string]string{"cpu.max": "20000 100000", "memory.max": "67108864", "pids.max": "77"}
		}
		for file, want := range values {
			if got := m.groupFile(spec, file); got != want {
				t.Errorf("%s is %q, want %q", file, got, want)
			}
		}
		if data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.Pid)); !strings.Contains(string(data), "/windlass/") {
			t.Errorf("in control groups %s", data)
		}
	})
	t.Run("idempotent", func(t *testing.T) {
		spec := m.spec("sleep 1000")
		first := m.start(spec)
		if second := m.start(spec); second.Pid != first.Pid {
			t.Errorf("started twice: %d, %d", first.Pid, second.Pid)
		}
	})
	t.Run("no such command", func(t *testing.T) {
		spec := m.spec("")
		spec.Args = []string{"/no/such/program"}
		m.refused(spec, "/no/such/program")
	})
	t.Run("no such mount", func(t *testing.T) {
		spec := m.spec("true")
		spec.Mounts = []agent.Mount{{Source: "/no/such/dir", Destination: "/x"}}
		m.refused(spec, "/no/such/dir")
	})
	t.Run("bad names", func(t *testing.T) {
		for _, id := range []string{"", "../x", "a/b", "-x", strings.Repeat("a", 200)} {
			spec := m.spec("true")
			spec.ID = id
			if _, err := m.Start(context.Background(), spec); err == nil {
				t.Errorf("container id %q was taken", id)
			}
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		spec := m.spec("sleep 1000")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := m.Start(ctx, spec); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		m.nothingLeft(spec.ID)
	})
}

// groupFile reads a file of a container's control group.
func (m *machine) groupFile(spec agent.ContainerSpec, name string) string {
	m.t.Helper()
	for _, root := range m.cgroups.mounts {
		if data, err := os.ReadFile(filepath.Join(root, m.cgroups.container(spec.PodUID, spec.ID), name)); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	m.t.Fatalf("no %s", name)
	return ""
}

// refused starts a container that cannot start.
func (m *machine) refused(spec agent.ContainerSpec, reason string) {
	m.t.Helper()
	_, err := m.Start(context.Background(), spec)
	if err == nil || !strings.Contains(err.Error(), reason) {
		m.t.Errorf("the error does not name %s: %v", reason, err)
	}
	m.t.Logf("refused: %v", err)
	m.nothingLeft(spec.ID)
}

// nothingLeft looks for every trace of a container but its log.
func (m *machine) nothingLeft(id string) {
	m.t.Helper()
	for _, path := range []string{m.containerDir(id), filepath.Join(m.exitDir(), id), filepath.Join(m.stateDir(), id)} {
		if exists(path) {
			m.t.Errorf("%s is left", path)
		}
	}
	for _, root := range m.cgroups.mounts {
		if exists(filepath.Join(root, m.cgroups.pod("uid-"+id))) {
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

// processesNaming lists the processes with a string in their command line.
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

func TestExit(t *testing.T) {
	m := newMachine(t)
	m.run()
	for _, code := range []int{0, 3, 255} {
		spec := m.spec(fmt.Sprintf("exit %d", code))
		before := time.Now()
		m.start(spec)
		c := m.exit(spec.ID)
		if c.Phase != agent.ContainerExited || c.ExitCode != code || c.Pid != 0 || c.OOMKilled || c.FinishedAt.Before(before.Add(-time.Second)) || c.FinishedAt.After(time.Now().Add(time.Second)) {
			t.Errorf("exit %d: %+v", code, c)
		}
		if err := m.Signal(context.Background(), spec.ID, unix.SIGTERM); err != nil {
			t.Errorf("signal to an ended container: %v", err)
		}
		if err := m.Remove(context.Background(), spec.ID); err != nil {
			t.Error(err)
		}
		m.nothingLeft(spec.ID)
		if !exists(spec.LogPath) {
			t.Error("the log is gone")
		}
	}
}

func TestSignal(t *testing.T) {
	m := newMachine(t)
	m.run()
	spec := m.spec("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done")
	m.start(spec)
	waitFor(t, "the trap", func() bool { return strings.Contains(logText(t, spec.LogPath), "ready") })
	if err := m.Signal(context.Background(), spec.ID, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if c := m.exit(spec.ID); c.ExitCode != 7 {
		t.Errorf("exit code %d", c.ExitCode)
	}
	spec = m.spec("sleep 1000")
	m.start(spec)
	if err := m.Signal(context.Background(), spec.ID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if c := m.exit(spec.ID); c.ExitCode != 137 || c.OOMKilled {
		t.Errorf("killed: %+v", c)
	}
	if err := m.Signal(context.Background(), "none", unix.SIGTERM); err != nil {
		t.Errorf("signal to no container: %v", err)
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

func TestOutOfMemory(t *testing.T) {
	m := newMachine(t)
	m.run()
	spec := m.spec("exec tail /dev/zero") // which holds a line of any length
	spec.Resources.MemoryLimit = 16 << 20
	m.start(spec)
	if c := m.exit(spec.ID); c.ExitCode != 137 || !c.OOMKilled {
		t.Errorf("%+v", c)
	}
}

func TestExec(t *testing.T) {
	m := newMachine(t)
	spec := m.spec("sleep 1000")
	spec.User = "1000:1000"
	c := m.start(spec)
	ctx := context.Background()
	code, out, err := m.Exec(ctx, c.ID, []string{"sh", "-c", "echo $COLOR; id -u; echo err >&2; exit 4"})
	// The OCI runtime passes the two streams on separately: their order is not kept.
	if text := string(out); err != nil || code != 4 || !strings.Contains(text, "blue\n1000\n") || !strings.Contains(text, "err\n") {
		t.Errorf("%d %q %v", code, out, err)
	}
	if code, out, err = m.Exec(ctx, c.ID, []string{"sh", "-c", "yes | head -c 100000"}); err != nil || code != 0 || len(out) != maxExecOutput {
		t.Errorf("%d, %d bytes, %v", code, len(out), err)
	}
	if _, _, err = m.Exec(ctx, c.ID, []string{"/no/such"}); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("no such command: %v", err)
	}
	if _, _, err = m.Exec(ctx, "none", []string{"true"}); err == nil {
		t.Error("exec without a container")
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, _, err = m.Exec(short, c.ID, []string{"sh", "-c", "sleep 987 & sleep 987"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("too slow a command: %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("killing took %v", took)
	}
	waitFor(t, "the end of the command", func() bool { return !strings.Contains(commandLines(t, m, spec), "987") })
	if left, _ := filepath.Glob(filepath.Join(m.dir, "run", "exec-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := m.Remove(ctx, c.ID); err != nil {
		t.Error(err)
	}
	if _, _, err = m.Exec(ctx, c.ID, []string{"true"}); err == nil {
		t.Error("exec in a removed container")
	}
	m.nothingLeft(c.ID)
}

// commandLines are those of all processes in a container.
func commandLines(t *testing.T, m *machine, spec agent.ContainerSpec) string {
	t.Helper()
	var text strings.Builder
	for _, pid := range m.cgroups.processes(spec.PodUID, spec.ID) {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		text.Write(data)
	}
	return text.String()
}

func TestRestartOfServer(t *testing.T) {
	m := newMachine(t)
	stop := m.run()
	runs, ends := m.spec("trap 'exit 0' TERM; while :; do sleep 0.01; done"), m.spec("while ! test -e /tmp/end; do sleep 0.01; done; exit 9")
	first := m.start(runs)
	second := m.start(ends)
	stop()
	// It ends while no server runs.
	writeFile(t, fmt.Sprintf("/proc/%d/root/tmp/end", second.Pid), "")
	waitFor(t, "the exit file", func() bool { return exists(filepath.Join(m.exitDir(), second.ID)) })
	m.reopen()
	list, err := m.List(context.Background())
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	first.StartedAt = first.StartedAt.Round(0) // as read from the record
	if list[0].StartedAt = list[0].StartedAt.Local(); !list[0].StartedAt.Equal(first.StartedAt) {
		t.Errorf("started at %v, was %v", list[0].StartedAt, first.StartedAt)
	}
	if list[0].StartedAt = first.StartedAt; list[0] != first {
		t.Errorf("got %+v, was %+v", list[0], first)
	}
	if list[1].Phase != agent.ContainerExited || list[1].ExitCode != 9 {
		t.Errorf("ended meanwhile: %+v", list[1])
	}
	m.run()
	if c := m.exit(second.ID); c.ExitCode != 9 {
		t.Errorf("%+v", c)
	}
	if code, _, err := m.Exec(context.Background(), first.ID, []string{"true"}); code != 0 || err != nil {
		t.Errorf("exec after restart: %d, %v", code, err)
	}
	if err := m.Signal(context.Background(), first.ID, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if c := m.exit(first.ID); c.ExitCode != 0 {
		t.Errorf("%+v", c)
	}
}

// Each of these is what a crash, a reboot or a stray kill leaves behind.
func TestWhatIsLeft(t *testing.T) {
	m := newMachine(t)
	ctx := context.Background()
	dirOf := func(spec agent.ContainerSpec) string { return m.containerDir(spec.ID) }
	alter := func(spec agent.ContainerSpec, change func(*record)) {
		t.Helper()
		rec, err := readRecord(dirOf(spec))
		if err != nil {
			t.Fatal(err)
		}
		change(&rec)
		if err := writeRecord(dirOf(spec), rec); err != nil {
			t.Fatal(err)
		}
	}
	half, rebooted, lost, torn := m.spec("sleep 1000"), m.spec("sleep 1000"), m.spec("sleep 1000"), m.spec("sleep 1000")
	for _, spec := range []agent.ContainerSpec{half, rebooted, lost} {
		m.start(spec)
	}
	// Killed between start and record.
	alter(half, func(rec *record) { rec.Phase, rec.Pid = phaseCreating, 0 })
	if _, err := mountRootfs(dirOf(half), half.Layers); err == nil {
		t.Log("with its mount still there")
	}
	// The machine restarted: the process is gone, the record is of another boot.
	kill := func(spec agent.ContainerSpec) {
		if pid := conmonPid(dirOf(spec), spec.ID); pid == 0 || unix.Kill(pid, unix.SIGKILL) != nil {
			t.Fatal("no conmon")
		}
		waitFor(t, "the end of conmon", func() bool { return conmonPid(dirOf(spec), spec.ID) == 0 })
		if err := m.cgroups.kill(spec.PodUID, spec.ID); err != nil {
			t.Fatal(err)
		}
	}
	kill(rebooted)
	alter(rebooted, func(rec *record) { rec.BootID, rec.Pid = "another", os.Getpid() })
	kill(lost)
	// The power failed while the record was written.
	if err := os.MkdirAll(dirOf(torn), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dirOf(torn)+"/container.json", "")

	m.reopen()
	list, err := m.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
		if c.Phase != agent.ContainerExited || c.ExitCode != lostExitCode || c.Pid != 0 {
			t.Errorf("%+v", c)
		}
	}
	if !slices.Equal(ids, []string{rebooted.ID, lost.ID}) {
		t.Errorf("listed %v", ids)
	}
	m.nothingLeft(half.ID)
	m.nothingLeft(torn.ID)
	for _, spec := range []agent.ContainerSpec{rebooted, lost} {
		if err := m.Remove(ctx, spec.ID); err != nil {
			t.Error(err)
		}
		m.nothingLeft(spec.ID)
	}
}

// A container whose conmon is killed loses its log, not its end.
func TestLossOfConmon(t *testing.T) {
	m := newMachine(t)
	spec := m.spec("sleep 1000")
	m.start(spec)
	if err := unix.Kill(conmonPid(m.containerDir(spec.ID), spec.ID), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if list, err := m.List(context.Background()); err != nil || len(list) != 1 || list[0].Phase != agent.ContainerRunning {
		t.Fatal(list, err)
	}
	if err := m.Signal(context.Background(), spec.ID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the process", func() bool { return len(m.Pids(spec.PodUID)) == 0 })
	m.run() // whose first look finds it
	if c := m.exit(spec.ID); c.ExitCode != lostExitCode {
		t.Errorf("%+v", c)
	}
}

func TestLongDataDirectory(t *testing.T) {
	needContainers(t)
	m := &machine{t: t, dir: filepath.Join(t.TempDir(), strings.Repeat("long/", 40), "data,with signs"), layers: busyboxLayers(t)}
	m.reopen()
	m.run()
	for _, tty := range []bool{false, true} {
		spec := m.spec("echo here")
		spec.TTY = tty
		if got := strings.TrimSpace(m.output(spec)); got != "here" {
			t.Errorf("got %q", got)
		}
		if err := m.Remove(context.Background(), spec.ID); err != nil {
			t.Error(err)
		}
		m.nothingLeft(spec.ID)
	}
	m.removeGroups()
}

func TestManyLayers(t *testing.T) {
	m := newMachine(t)
	m.run()
	dir := t.TempDir()
	for i := range 120 {
		layer := filepath.Join(dir, fmt.Sprintf("%064d", i))
		if err := os.Mkdir(layer, 0o755); err != nil {
			t.Fatal(err)
		}
		m.layers = slices.Insert(m.layers, 0, layer)
	}
	if got := m.output(m.spec("echo here")); got != "here\n" {
		t.Errorf("got %q", got)
	}
}

func TestManyAtOnce(t *testing.T) {
	m := newMachine(t)
	m.run()
	specs := make([]agent.ContainerSpec, 12)
	var group sync.WaitGroup
	for i := range specs {
		specs[i] = m.spec("echo hello; exit 5")
		group.Go(func() {
			if _, err := m.Start(context.Background(), specs[i]); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, spec := range specs {
		waitFor(t, "the end of "+spec.ID, func() bool {
			list, err := m.List(context.Background())
			return err == nil && slices.ContainsFunc(list, func(c agent.Container) bool { return c.ID == spec.ID && c.ExitCode == 5 })
		})
		group.Go(func() {
			if err := m.Remove(context.Background(), spec.ID); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, spec := range specs {
		m.nothingLeft(spec.ID)
	}
}

func TestColonInPaths(t *testing.T) {
	needContainers(t)
	if _, err := New(Config{DataDir: filepath.Join(t.TempDir(), "a:b")}); err == nil || !strings.Contains(err.Error(), "colon") {
		t.Errorf("conmon cannot take it, New does: %v", err)
	}
	m := newMachine(t)
	spec := m.spec("true")
	spec.LogPath = filepath.Join(m.dir, "a:b", "0.log")
	m.refused(spec, "colon")
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	err := Check(Config{DataDir: t.TempDir(), RuntimePath: "/no/runc", ConmonPath: "/no/conmon"})
	for _, want := range []string{"/no/runc", "apt-get install runc", "/no/conmon", "apt-get install conmon"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	t.Setenv("PATH", "/nowhere")
	if _, err := findProgram("", "no-such-program"); err == nil || !strings.Contains(err.Error(), "apt-get install no-such-program") {
		t.Error(err)
	}
}

// In a mount namespace as "ip netns exec" makes it, with a fresh /sys that has no
// control groups, a container of another mount namespace is recognised, exec'd,
// signalled and removed.
func TestOtherMountNamespace(t *testing.T) {
	if os.Getenv("WINDLASS_TEST_DIR") != "" {
		otherMountNamespace(t)
		return
	}
	m := newMachine(t)
	spec, twin := m.spec("sleep 1000"), m.spec("sleep 1000")
	m.start(spec)
	m.start(twin)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOtherMountNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), "WINDLASS_TEST_DIR="+m.dir, "WINDLASS_TEST_CONTAINER="+spec.ID, "WINDLASS_TEST_LAYERS="+strings.Join(m.layers, "\n"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	m.reopen()
	list, err := m.List(context.Background())
	if err != nil || len(list) != 2 || list[0].ID != "c100" || list[1].ID != twin.ID || list[0].Phase != agent.ContainerRunning {
		t.Fatal(list, err)
	}
	m.nothingLeft(spec.ID)
	if code, out, err := m.Exec(context.Background(), "c100", []string{"cat", "/etc/layer"}); code != 0 || err != nil || string(out) != "top\n" {
		t.Error(code, string(out), err)
	}
}

// With cgroup v2 alone, as newer systems have it. What the machine of this test
// gives to v1 hierarchies v2 does not have, so limits are not tried.
func TestUnifiedHierarchy(t *testing.T) {
	if os.Getenv("WINDLASS_TEST_DIR") == "" {
		needContainers(t)
		dir := t.TempDir()
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestUnifiedHierarchy$", "-test.v")
		cmd.Env = append(os.Environ(), "WINDLASS_TEST_DIR="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, step := range []error{
		unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
		unix.Unmount("/sys", unix.MNT_DETACH),
		unix.Mount("sysfs", "/sys", "sysfs", 0, ""),
		unix.Mount("cgroup2", cgroupRoot, "cgroup2", 0, ""),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	r, err := open(Config{DataDir: os.Getenv("WINDLASS_TEST_DIR")})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: r.dataDir, layers: busyboxLayers(t), Runtime: r}
	stop := m.run()
	if !m.cgroups.unified {
		t.Fatal("not recognised")
	}
	spec := m.spec("cat /proc/self/cgroup; sleep 1000")
	c := m.start(spec)
	if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.Pid)); err != nil || !strings.Contains(string(data), "0::"+m.cgroups.container(spec.PodUID, spec.ID)) {
		t.Errorf("in %s, %v", data, err)
	}
	conmon := conmonPid(m.containerDir(spec.ID), spec.ID)
	if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", conmon)); err != nil || !strings.Contains(string(data), "0::"+m.cgroups.prefix+"/conmon") {
		t.Errorf("conmon is in %s, %v", data, err)
	}
	waitFor(t, "its output", func() bool { return logText(t, spec.LogPath) != "" })
	if got := logText(t, spec.LogPath); !strings.Contains(got, "0::/\n") {
		t.Errorf("it sees the control groups %s", got)
	}
	if code, out, err := m.Exec(context.Background(), c.ID, []string{"id", "-u"}); code != 0 || err != nil {
		t.Error(code, string(out), err)
	}
	if err := m.Remove(context.Background(), c.ID); err != nil {
		t.Error(err)
	}
	m.nothingLeft(c.ID)
	stop()
	if exists(filepath.Join(cgroupRoot, m.cgroups.prefix)) {
		t.Error("the data directory's control group is left")
	}
}

func otherMountNamespace(t *testing.T) {
	ctx := context.Background()
	for _, step := range []error{
		unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""),
		unix.Unmount("/sys", unix.MNT_DETACH),
		unix.Mount("sysfs", "/sys", "sysfs", 0, ""),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	m := &machine{t: t, dir: os.Getenv("WINDLASS_TEST_DIR"), seq: 99, layers: strings.Split(os.Getenv("WINDLASS_TEST_LAYERS"), "\n")}
	m.reopen()
	id := os.Getenv("WINDLASS_TEST_CONTAINER")
	list, err := m.List(ctx)
	if err != nil || len(list) != 2 || list[0].ID != id || list[0].Phase != agent.ContainerRunning {
		t.Fatal(list, err)
	}
	if code, out, err := m.Exec(ctx, id, []string{"cat", "/etc/layer"}); code != 0 || err != nil || string(out) != "top\n" {
		t.Error(code, string(out), err)
	}
	stop := m.run()
	if err := m.Signal(ctx, id, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if c := m.exit(id); c.ExitCode != 137 {
		t.Errorf("%+v", c)
	}
	if err := m.Remove(ctx, id); err != nil {
		t.Error(err)
	}
	m.nothingLeft(id)
	m.start(m.spec("sleep 1000"))
	stop()
}
