package oci

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent"
)

func TestGroupFiles(t *testing.T) {
	text := func(files ...groupFile) string {
		var lines []string
		for _, f := range files {
			lines = append(lines, f.name+"="+f.value)
		}
		return strings.Join(lines, " ")
	}
	for _, test := range []struct {
		hold   agent.Resources
		v1, v2 string
	}{
		{agent.Resources{CPUShares: 2},
			"cpu.shares=2 cpu.cfs_quota_us=-1 memory.limit_in_bytes=-1 pids.max=max",
			"cpu.weight=1 cpu.max=max 100000 memory.max=max pids.max=max"},
		{agent.Resources{CPUShares: 1024, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 1 << 20, PidsLimit: 77},
			"cpu.shares=1024 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 memory.limit_in_bytes=1048576 pids.max=77",
			"cpu.weight=100 cpu.max=50000 100000 memory.max=1048576 pids.max=77"},
		{agent.Resources{CPUShares: 1 << 40},
			"cpu.shares=262144 cpu.cfs_quota_us=-1 memory.limit_in_bytes=-1 pids.max=max",
			"cpu.weight=10000 cpu.max=max 100000 memory.max=max pids.max=max"},
	} {
		cpu, memory, pids := filesV1(test.hold)
		if got := text(slices.Concat(cpu, memory, pids)...); got != test.v1 {
			t.Errorf("%+v:\n%s, want\n%s", test.hold, got, test.v1)
		}
		if got := text(filesV2(test.hold)...); got != test.v2 {
			t.Errorf("%+v:\n%s, want\n%s", test.hold, got, test.v2)
		}
	}
}

// file reads a setting of a group, "" when there is none.
func (m *machine) file(group, v1, v2 string) string {
	root, name := map[string]string{"cpu": m.cgroups.cpu, "mem": m.cgroups.memory, "pid": m.cgroups.pids}[v1[:3]], v1
	if m.cgroups.unified {
		root, name = cgroupRoot, v2
	}
	content, _ := os.ReadFile(filepath.Join(root, group, name))
	return strings.TrimSpace(string(content))
}

// The groups of pods are in their classes, with what the pods may have, and the
// classes have what their pods have together.
func TestPodGroups(t *testing.T) {
	m := newMachine(t)
	m.run()
	var specs []agent.ContainerSpec
	for _, qos := range []corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		spec := m.spec("sleep 1000")
		spec.Pod = agent.PodGroup{QOS: qos, Resources: agent.Resources{CPUShares: 300, CPUQuota: 20000, CPUPeriod: 100000, MemoryLimit: 64 << 20, PidsLimit: 100}}
		m.start(spec)
		specs = append(specs, spec)
	}
	unified := m.cgroups.unified
	of := func(v1, v2 string) string {
		if unified {
			return v2
		}
		return v1
	}
	for i, class := range []string{"", burstable, burstable, bestEffort} {
		group := m.cgroups.pod(class, specs[i].PodUID)
		got := fmt.Sprint(m.file(group, "cpu.shares", "cpu.weight"), " ", m.file(group, "cpu.cfs_quota_us", "cpu.max"), " ", m.file(group, "memory.limit_in_bytes", "memory.max"), " ", m.file(group, "pids.max", "pids.max"))
		if want := of("300 20000 67108864 100", "39 20000 100000 67108864 100"); got != want {
			t.Errorf("%s has %s, want %s", group, got, want)
		}
		if swap := m.file(group, "memory.none", "memory.swap.max"); unified && swap != "0" {
			t.Errorf("%s may swap %s", group, swap)
		}
		if pids := m.cgroups.processes(m.cgroups.container(class, specs[i].PodUID, specs[i].ID)); len(pids) == 0 {
			t.Errorf("nothing runs in %s", group)
		}
	}
	together := func(burst, best string) {
		t.Helper()
		if got := m.file(m.cgroups.prefix+burstable, "cpu.shares", "cpu.weight"); got != burst {
			t.Errorf("burstable pods have %s shares together, want %s", got, burst)
		}
		if got := m.file(m.cgroups.prefix+bestEffort, "cpu.shares", "cpu.weight"); got != best {
			t.Errorf("best-effort pods have %s shares together, want %s", got, best)
		}
	}
	together(of("600", "65"), of("2", "1")) // of 66, less what is lost by rounding
	m.reopen()                              // a restarted server finds them where they are
	m.run()
	if err := m.Remove(t.Context(), specs[1].ID); err != nil {
		t.Error(err)
	}
	together(of("300", "39"), of("2", "1"))
	if exists(filepath.Join(m.cgroups.cpu, m.cgroups.pod(burstable, specs[1].PodUID))) {
		t.Error("the group of a removed pod is still there")
	}
}

// What many small pods ask for is not lost in what their groups can say of it.
func TestBurstableTogether(t *testing.T) {
	root := t.TempDir()
	c := &cgroups{unified: true, cpu: root, prefix: "/windlass/x", present: []string{"cpu"}}
	for i := range 100 {
		dir := filepath.Join(root, c.pod(burstable, strconv.Itoa(i)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := writeGroup(dir, filesV2(agent.Resources{CPUShares: 10})[:1]); err != nil { // 10m of a CPU
			t.Fatal(err)
		}
	}
	if err := c.weighBurstable(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, c.prefix+burstable, "cpu.weight"))
	if want := weight(1000); err != nil || string(got) != strconv.FormatUint(want, 10) {
		t.Errorf("a hundred pods of 10m weigh %s together, want %d: %v", got, want, err)
	}
	for shares := uint64(minShares); shares <= maxShares; shares += 1 + shares/100 {
		if back := sharesOf(weight(shares)); back > shares || weight(back) != weight(shares) {
			t.Fatalf("%d shares are read as %d", shares, back)
		}
	}
}

// A pod keeps its group and what that holds it to while one of its containers goes
// and another is about to come.
func TestPodGroupStays(t *testing.T) {
	m := newMachine(t)
	const pod, limit = "uid-pod", 64 << 20
	goes, comes := record{Container: agent.Container{ID: "goes", PodUID: pod}}, record{Container: agent.Container{ID: "comes", PodUID: pod}}
	for _, rec := range []*record{&goes, &comes} {
		if err := m.cgroups.makePod(rec, agent.Resources{MemoryLimit: limit}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.cgroups.remove(m.cgroups.group(&goes)); err != nil {
		t.Fatal(err)
	}
	if got := m.file(m.cgroups.pod("", pod), "memory.limit_in_bytes", "memory.max"); got != strconv.Itoa(limit) {
		t.Errorf("the pod is held to %q", got)
	}
	if err := m.cgroups.remove(m.cgroups.group(&comes)); err != nil {
		t.Fatal(err)
	}
	m.nothingLeft("pod")
}

// Where we are in a container ourselves, our processes are in what we take for the
// machine's root of control groups v2, which has to have none.
func TestInContainer(t *testing.T) {
	const inside = "WINDLASS_TEST_IN_CONTAINER"
	needContainers(t)
	if os.Getenv(inside) != "" {
		m := newMachine(t)
		m.run()
		spec := m.spec("exec sleep 1000")
		spec.Pod.Resources.MemoryLimit = 64 << 20
		m.start(spec)
		if got := m.file(m.cgroups.pod("", spec.PodUID), "memory.limit_in_bytes", "memory.max"); got != "67108864" {
			t.Errorf("a pod is held to %q", got)
		}
		return
	}
	if c, err := openCgroups(t.TempDir(), slog.Default()); err != nil || !c.unified {
		t.Skip("this machine does not have control groups v2 alone: ", err)
	}
	if err := enableControllers(cgroupRoot); err != nil {
		t.Fatal(err)
	}
	group := filepath.Join(cgroupRoot, "windlass-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeGroup(group); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs" && exec unshare --cgroup --mount sh -c 'umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" -test.v -test.run TestInContainer' "$1"`, group, os.Args[0])
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: TestInContainer") {
		t.Error("inside: ", err)
	}
}

// What a pod has too many of, the kernel refuses it, and nobody else notices.
func TestForkBomb(t *testing.T) {
	m := newMachine(t)
	m.run()
	const most = 30
	spec := m.spec("( n=0; while [ $n -lt 200 ]; do sleep 1000 & n=$((n+1)); done ); exec sleep 1000") // the shell that is refused ends
	spec.Pod.Resources.PidsLimit = most
	m.start(spec)
	group := m.cgroups.container("", spec.PodUID, spec.ID)
	waitFor(t, "as many processes as there may be", func() bool { return len(m.cgroups.processes(group)) >= most-1 })
	waitFor(t, "one refused", func() bool { return strings.Contains(logText(t, spec.LogPath), "can't fork") })
	if n := len(m.cgroups.processes(group)); n > most {
		t.Errorf("%d processes", n)
	}
	other := m.spec("echo well")
	if got := m.output(other); got != "well\n" {
		t.Errorf("another pod: %q", got)
	}
	began := time.Now()
	if err := m.Remove(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	t.Log("removed in ", time.Since(began))
	m.nothingLeft(spec.ID)
}
