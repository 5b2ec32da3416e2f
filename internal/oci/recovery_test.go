package oci

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

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
	if list[0].StartedAt = first.StartedAt; !reflect.DeepEqual(list[0], first) {
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
	if err := mountRootfs(dirOf(half), filepath.Join(dirOf(half), "rootfs"), half.Layers); err == nil {
		t.Log("with its mount still there")
	}
	// The machine restarted: the process is gone, the record is of another boot.
	kill := func(spec agent.ContainerSpec) {
		if pid := conmonPid(dirOf(spec), spec.ID); pid == 0 || unix.Kill(pid, unix.SIGKILL) != nil {
			t.Fatal("no conmon")
		}
		waitFor(t, "the end of conmon", func() bool { return conmonPid(dirOf(spec), spec.ID) == 0 })
		if err := m.cgroups.kill(m.cgroups.container("", spec.PodUID, spec.ID)); err != nil {
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
		if c.Phase != agent.ContainerExited || c.ExitCode != lostExitCode || c.Pid != 0 || c.EarlierBoot != (c.ID == rebooted.ID) {
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
	if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.Pid)); err != nil || !strings.Contains(string(data), "0::"+m.cgroups.container("", spec.PodUID, spec.ID)) {
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

// Start does not wait for List to have cleared away what a crash left of the same
// container.
func TestStartOverHalfMade(t *testing.T) {
	m := newMachine(t)
	spec := m.spec("sleep 1000")
	first := m.start(spec)
	rec, err := readRecord(m.containerDir(spec.ID))
	if err != nil {
		t.Fatal(err)
	}
	rec.Phase, rec.Pid = phaseCreating, 0
	if err := writeRecord(m.containerDir(spec.ID), rec); err != nil {
		t.Fatal(err)
	}
	m.reopen()
	second := m.start(spec)
	if second.Pid == first.Pid || len(m.cgroups.processes(m.cgroups.container("", spec.PodUID, spec.ID))) != 1 {
		t.Errorf("first %d, then %d; there are %v", first.Pid, second.Pid, m.cgroups.processes(m.cgroups.container("", spec.PodUID, spec.ID)))
	}
	if got := m.Pids(spec.PodUID); len(got) != 1 || got[0] != second.Pid {
		t.Errorf("pids %v", got)
	}
}
