package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// needContainers skips a test where containers cannot run.
// machine is a data directory with a Runtime and the layers of a busybox image.
// removeGroups deletes the control groups of the data directory itself, which
// only an uninstallation would.
// reopen is what a restart of the server does, as far as this package sees it.
// run starts Run, until the test or stop ends.
// spec is one of a busybox container that runs a shell command.
// exit waits for the end of a container.
// output runs a command in a container of its own to its end and returns its log's texts.
// busyboxLayers makes an image of two layers, topmost first.
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
	t.Run("the user is told", func(t *testing.T) {
		spec := m.spec("true")
		spec.User = "web"
		spec.Security.SupplementalGroups = []int64{2000}
		if got := m.start(spec).User; got == nil || got.UID != 1000 || got.GID != 1001 || !slices.Equal(got.SupplementalGroups, []int64{1001, 1002, 2000}) {
			t.Errorf("got %+v", got)
		}
		m.exit(spec.ID)
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
	t.Run("a seccomp profile of the node's", func(t *testing.T) {
		spec := m.spec("mkdir /a 2>/dev/null || echo refused; grep -E '^Seccomp:' /proc/self/status")
		spec.Security.SeccompProfile = []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`)
		if got := m.output(spec); got != "refused\nSeccomp:\t2\n" {
			t.Errorf("got %q", got)
		}
		spec = m.spec("true")
		spec.Security.SeccompProfile = []byte(`{"defaultAction": `)
		m.refused(spec, "seccomp profile")
	})
	t.Run("strict groups", func(t *testing.T) {
		spec := m.spec("id -G")
		spec.User, spec.Security.StrictGroups, spec.Security.SupplementalGroups = "web", true, []int64{2000}
		if got := m.output(spec); got != "1001 2000\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("kernel parameters", func(t *testing.T) {
		spec := m.spec("cat /proc/sys/kernel/shm_rmid_forced")
		spec.Security.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1"}
		if got := m.output(spec); got != "1\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("masked and read-only paths", func(t *testing.T) {
		const look = "wc -c </proc/keys | tr -d ' '; echo 1 2>/dev/null >/proc/sys/kernel/printk_ratelimit_burst || echo denied"
		if got := m.output(m.spec(look)); got != "0\ndenied\n" {
			t.Errorf("got %q", got)
		}
		spec := m.spec("grep -c ' /proc/' /proc/self/mountinfo || true")
		spec.Security.UnmaskedProc = true
		if got := m.output(spec); got != "0\n" {
			t.Errorf("unmasked: got %q", got)
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
// refused starts a container that cannot start.
// nothingLeft looks for every trace of a container but its log.
// processesNaming lists the processes with a string in their command line.
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

func TestOutOfMemory(t *testing.T) {
	m := newMachine(t)
	m.run()
	spec := m.spec("exec tail /dev/zero") // which holds a line of any length
	spec.Resources.MemoryLimit = 16 << 20
	m.start(spec)
	if c := m.exit(spec.ID); c.ExitCode != 137 || !c.OOMKilled {
		t.Errorf("%+v", c)
	}

	// The limit may be the pod's, of what its containers have together.
	spec = m.spec("exec tail /dev/zero")
	spec.Pod.Resources.MemoryLimit = 16 << 20
	m.start(spec)
	if c := m.exit(spec.ID); c.ExitCode != 137 || !c.OOMKilled {
		t.Errorf("beyond the pod's limit: %+v", c)
	}

	if !m.cgroups.unified {
		return
	}
	// With control groups v2 a container ends as a whole.
	spec = m.spec("tail /dev/zero & exec sleep 1000")
	spec.Resources.MemoryLimit = 16 << 20
	m.start(spec)
	if c := m.exit(spec.ID); c.ExitCode != 137 || !c.OOMKilled {
		t.Errorf("one process of several: %+v", c)
	}
}

func TestExec(t *testing.T) {
	m := newMachine(t)
	spec := m.spec("sleep 1000")
	spec.User = "1000:1000"
	c := m.start(spec)
	ctx := context.Background()
	code, out, err := m.Exec(ctx, c.ID, []string{"sh", "-c", "echo $COLOR; id -u; echo err >&2; exit 4"})
	// The OCI runtime passes the two streams on separately: a line of one may come between those of the other.
	if lines := slices.Sorted(strings.Lines(string(out))); err != nil || code != 4 || !slices.Equal(lines, []string{"1000\n", "blue\n", "err\n"}) {
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
	if took := time.Since(begin); took > time.Minute { // and not the quarter of an hour that it would
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
// Each of these is what a crash, a reboot or a stray kill leaves behind.
// A container whose conmon is killed loses its log, not its end.
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
// With cgroup v2 alone, as newer systems have it. What the machine of this test
// gives to v1 hierarchies v2 does not have, so limits are not tried.
