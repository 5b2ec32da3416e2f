package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"windlass.dev/windlass/internal/agent"
)

// A container that runs is given more and less of CPU and memory, with its pod around
// it, also after others of its pod have ended and by a server that has found it.
func TestResize(t *testing.T) {
	m := newMachine(t)
	m.run()
	const mib = 1 << 20
	size := func(n int64) agent.Resources {
		return agent.Resources{CPUShares: uint64(n) * 10, CPUQuota: n * 1000, CPUPeriod: 100_000, MemoryLimit: n * mib}
	}
	qos := corev1.PodQOSBurstable
	spec := m.spec("exec sleep 1000")
	spec.Resources, spec.Pod = size(40), agent.PodGroup{QOS: qos, Resources: size(50)}
	ended := m.spec("exit 0")
	ended.PodUID, ended.Resources, ended.Pod = spec.PodUID, size(50), spec.Pod
	m.start(spec)
	m.start(ended)
	m.exit(ended.ID)
	pod, own := m.cgroups.pod(burstable, spec.PodUID), m.cgroups.container(burstable, spec.PodUID, spec.ID)
	show := func(group string) string {
		return fmt.Sprint(m.file(group, "cpu.shares", "cpu.weight"), " ", m.file(group, "cpu.cfs_quota_us", "cpu.max"), " ",
			m.file(group, "memory.limit_in_bytes", "memory.max"), " ", m.file(group, "memory.memsw.limit_in_bytes", "memory.swap.max"))
	}
	want := func(n int64) string {
		if m.cgroups.unified {
			return fmt.Sprintf("%d %d 100000 %d 0", weight(uint64(n)*10), n*1000, n*mib)
		}
		both := ""
		if m.cgroups.memsw {
			both = fmt.Sprint(n * mib)
		}
		return fmt.Sprintf("%d %d %d %s", n*10, n*1000, n*mib, both)
	}
	granted := func(n int64) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: *resource.NewQuantity(n, resource.BinarySI)}}
	}
	for _, n := range []int64{80, 20, 60} {
		done, err := m.Resize(t.Context(), spec.PodUID, agent.PodGroup{QOS: qos, Resources: size(n)}, map[string]agent.Grant{
			spec.ID: {Resources: size(n), Granted: granted(n)}, ended.ID: {Resources: size(n)}, "nobody": {Resources: size(n)},
		})
		if err != nil || len(done) != 3 {
			t.Fatalf("to %d: %v %v", n, done, err)
		}
		if got := show(own); got != want(n) {
			t.Errorf("the container has %s, want %s", got, want(n))
		}
		if got, want := strings.Fields(show(pod))[:3], strings.Fields(want(n))[:3]; !slices.Equal(got, want) {
			t.Errorf("the pod has %s, want %s", got, want)
		}
		if n == 20 {
			m.reopen()
			m.run()
		}
	}
	list, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if limit := c.Granted.Limits.Memory(); c.ID == spec.ID && limit.Value() != 60 {
			t.Errorf("on record is %s", limit)
		}
	}

	// What it uses it keeps.
	_, err = m.Resize(t.Context(), spec.PodUID, agent.PodGroup{QOS: qos, Resources: size(60)}, map[string]agent.Grant{
		spec.ID: {Resources: agent.Resources{CPUShares: 600, CPUQuota: 60000, CPUPeriod: 100_000, MemoryLimit: 4096}},
	})
	if err == nil || !strings.Contains(err.Error(), "attempting to set container main memory limit (4096) below current usage (") || show(own) != want(60) {
		t.Errorf("below what is used: %v, and has %s", err, show(own))
	}
	// A pod without a group has nothing to be resized.
	if _, err := m.Resize(t.Context(), "uid-none", agent.PodGroup{Resources: size(1)}, nil); err != nil {
		t.Error(err)
	}
}

// The same with files in the place of control groups v2, which this machine may not have.
func TestResizeFilesV2(t *testing.T) {
	root := t.TempDir()
	c := &cgroups{unified: true, cpu: root, memory: root, cpuacct: root, pids: root, prefix: "/windlass/x", present: []string{"cpu", "memory", "pids"}}
	pod, own := c.pod(burstable, "u"), c.container(burstable, "u", "c")
	put := func(group, name, value string) {
		if err := os.MkdirAll(filepath.Join(root, group), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, group, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	get := func(group, name string) string {
		content, _ := os.ReadFile(filepath.Join(root, group, name))
		return string(content)
	}
	for _, group := range []string{pod, own} {
		put(group, "cpu.max", "50000 100000\n")
		put(group, "memory.max", "max\n")
		put(group, "memory.swap.max", "max\n")
		put(group, "memory.current", "9000\n")
		put(group, "memory.stat", "inactive_file 1000\n")
		put(group, "cgroup.controllers", "cpu memory pids")
	}
	less := agent.Resources{CPUShares: 1024, CPUQuota: 20000, CPUPeriod: 100_000, MemoryLimit: 1 << 20}
	if err := c.growPod(pod, less); err != nil {
		t.Fatal(err)
	}
	if cpu, memory := get(pod, "cpu.max"), get(pod, "memory.max"); cpu != "50000 100000" || memory != "max" {
		t.Errorf("the pod shrinks to %s and %s before its containers do", cpu, memory)
	}
	if err := c.hold(own, less); err != nil {
		t.Fatal(err)
	}
	if got := get(own, "cpu.weight") + " " + get(own, "cpu.max") + " " + get(own, "memory.max") + " " + get(own, "memory.swap.max"); got != "100 20000 100000 1048576 0" {
		t.Error("the container has ", got)
	}
	if err := c.shrinkPod(pod, less); err != nil {
		t.Fatal(err)
	}
	if cpu, memory := get(pod, "cpu.max"), get(pod, "memory.max"); cpu != "20000 100000" || memory != "1048576" {
		t.Errorf("the pod has %s and %s", cpu, memory)
	}
	if got := get(c.prefix+burstable, "cpu.weight"); got != "100" {
		t.Error("the burstable pods have together ", got)
	}
	more := agent.Resources{CPUShares: 1024, CPUQuota: 30000, CPUPeriod: 100_000, MemoryLimit: 2 << 20}
	if err := c.growPod(pod, more); err != nil || get(pod, "memory.max") != "2097152" {
		t.Error("the pod does not grow before its containers: ", get(pod, "memory.max"), err)
	}
	if err := c.inUse(own, "container c", 7999); err == nil || !strings.Contains(err.Error(), "below current usage (8000)") {
		t.Error(err)
	}
	if err := c.inUse(own, "container c", 8000); err != nil {
		t.Error(err)
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, seed := range []string{"max 100000\n", "50000 100000\n", "-1\n", "9223372036854771712\n", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		if n := parseLimit(content); n < 0 || n >= 1<<62 {
			t.Errorf("%q is %d", content, n)
		}
	})
}
