package oci

import (
	"fmt"
	"os"
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
			"cpu.weight=39 cpu.max=50000 100000 memory.max=1048576 pids.max=77"},
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
	if m.cgroups.unified {
		t.Skip("the values below are those of control groups v1; TestGroupFiles has those of v2")
	}
	for i, class := range []string{"", burstable, burstable, bestEffort} {
		group := m.cgroups.pod(class, specs[i].PodUID)
		got := fmt.Sprint(m.file(group, "cpu.shares", "cpu.weight"), m.file(group, "cpu.cfs_quota_us", ""), m.file(group, "memory.limit_in_bytes", ""), m.file(group, "pids.max", ""))
		if want := fmt.Sprint("300", "20000", strconv.Itoa(64<<20), "100"); got != want {
			t.Errorf("%s has %s, want %s", group, got, want)
		}
		if pids := m.cgroups.processes(m.cgroups.container(class, specs[i].PodUID, specs[i].ID)); len(pids) == 0 {
			t.Errorf("nothing runs in %s", group)
		}
	}
	together := func(burst, best string) {
		t.Helper()
		if got := m.file(m.cgroups.prefix+burstable, "cpu.shares", ""); got != burst {
			t.Errorf("burstable pods have %s shares together, want %s", got, burst)
		}
		if got := m.file(m.cgroups.prefix+bestEffort, "cpu.shares", ""); got != best {
			t.Errorf("best-effort pods have %s shares together, want %s", got, best)
		}
	}
	together("600", "2")
	m.reopen() // a restarted server finds them where they are
	m.run()
	if err := m.Remove(t.Context(), specs[1].ID); err != nil {
		t.Error(err)
	}
	together("300", "2")
	if exists(filepath.Join(m.cgroups.cpu, m.cgroups.pod(burstable, specs[1].PodUID))) {
		t.Error("the group of a removed pod is still there")
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
