package oci

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent"
)

// The classes of pods that have a group of their own around theirs, as below a
// kubelet's kubepods. Guaranteed pods have none.
const (
	burstable  = "/burstable"
	bestEffort = "/besteffort"
)

// The bounds of CPU shares, and of what control groups v2 have in their place.
const (
	minShares, maxShares = 2, 262144
	maxWeight            = 10000
)

// classOf is where the groups of a class of pods are.
func classOf(qos corev1.PodQOSClass) string {
	switch qos {
	case corev1.PodQOSBurstable:
		return burstable
	case corev1.PodQOSBestEffort:
		return bestEffort
	}
	return ""
}

// pod is the path of a pod's group in each hierarchy.
func (c *cgroups) pod(class, podUID string) string { return c.prefix + class + "/pod" + podUID }

// container is the path of a container's group in each hierarchy.
func (c *cgroups) container(class, podUID, id string) string { return c.pod(class, podUID) + "/" + id }

// group is the path of the group of the container that a record is of.
func (c *cgroups) group(rec *record) string { return c.container(rec.Class, rec.PodUID, rec.ID) }

// place notes which controllers a v1 hierarchy has.
func (c *cgroups) place(m cgroupMount) {
	for name, at := range map[string]*string{"memory": &c.memory, "cpu": &c.cpu, "cpuacct": &c.cpuacct, "pids": &c.pids} {
		if slices.Contains(m.options, name) {
			*at = m.path
		}
	}
	if c.memory == m.path {
		c.memsw = exists(filepath.Join(m.path, "memory.memsw.limit_in_bytes"))
	}
}

// makePod makes a pod's group and holds it to its resources, and in it the group
// of a container, so that nobody takes the pod's for empty.
func (c *cgroups) makePod(rec *record, hold agent.Resources) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := c.pod(rec.Class, rec.PodUID)
	if c.unified {
		if err := c.delegate(path); err != nil {
			return err
		}
	}
	for _, root := range []string{c.cpu, c.memory, c.pids} {
		if err := os.MkdirAll(filepath.Join(root, c.group(rec)), 0o755); err != nil {
			return err
		}
	}
	if err := c.writePod(path, hold); err != nil {
		return fmt.Errorf("control group of pod %s: %w", rec.PodUID, err)
	}
	if rec.Class == bestEffort {
		if err := c.setShares(c.prefix+bestEffort, minShares); err != nil {
			return err
		}
	}
	return c.weighBurstable()
}

// delegate makes a group with those above it, and gives the controllers down to
// the group's children (cgroups v2, "Top-down Constraint").
func (c *cgroups) delegate(path string) error {
	at := cgroupRoot
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		if err := enableControllers(at); err != nil {
			return err
		}
		at = filepath.Join(at, name)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// enableControllers gives the children of a group the controllers that containers need:
// all at once, as the kernel takes one with processes of its own for one of threads
// when it gives only such controllers as threads can have.
func enableControllers(dir string) error {
	available, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var all []string
	for _, name := range []string{"cpu", "memory", "pids"} {
		if slices.Contains(strings.Fields(string(available)), name) {
			all = append(all, "+"+name)
		}
	}
	enable := groupFile{"cgroup.subtree_control", strings.Join(all, " ")}
	err = writeGroup(dir, []groupFile{enable})
	if errors.Is(err, unix.EBUSY) && dir == cgroupRoot {
		if err = vacate(dir); err == nil {
			err = writeGroup(dir, []groupFile{enable})
		}
	}
	if err != nil {
		return fmt.Errorf("enable controllers %s: %w", enable.value, err)
	}
	return nil
}

// vacate moves the processes of a group into one below it. Where we are in a container
// that has control groups of its own, the root that we see is no machine's, and a group
// gives its children controllers or has processes, not both (cgroups v2, "No Internal
// Process Constraint").
func vacate(dir string) error {
	below := filepath.Join(dir, "init")
	if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(procs)) {
		err := writeGroup(below, []groupFile{{"cgroup.procs", pid}})
		if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended meanwhile
			return fmt.Errorf("move process %s to %s: %w", pid, below, err)
		}
	}
	return nil
}

// groupFile is one setting of a control group.
type groupFile struct{ name, value string }

// filesV1 are a group's settings by controller (Documentation/admin-guide/cgroup-v1).
func filesV1(hold agent.Resources) (cpu, memory, pids []groupFile) {
	number := func(n, none int64) string {
		if n == 0 {
			n = none
		}
		return strconv.FormatInt(n, 10)
	}
	cpu = []groupFile{{"cpu.shares", strconv.FormatUint(shares(hold), 10)}}
	if hold.CPUPeriod > 0 {
		cpu = append(cpu, groupFile{"cpu.cfs_period_us", strconv.FormatUint(hold.CPUPeriod, 10)})
	}
	cpu = append(cpu, groupFile{"cpu.cfs_quota_us", number(hold.CPUQuota, -1)})
	memory = []groupFile{{"memory.limit_in_bytes", number(hold.MemoryLimit, -1)}}
	return cpu, memory, []groupFile{{"pids.max", orMax(hold.PidsLimit)}}
}

// filesV2 are a group's settings (Documentation/admin-guide/cgroup-v2).
func filesV2(hold agent.Resources) []groupFile {
	period := hold.CPUPeriod
	if period == 0 {
		period = 100_000
	}
	return []groupFile{
		{"cpu.weight", strconv.FormatUint(weight(shares(hold)), 10)},
		{"cpu.max", orMax(hold.CPUQuota) + " " + strconv.FormatUint(period, 10)},
		{"memory.max", orMax(hold.MemoryLimit)},
		{"pids.max", orMax(hold.PidsLimit)},
	}
}

func orMax(n int64) string {
	if n == 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func shares(hold agent.Resources) uint64 {
	if hold.CPUShares == 0 {
		return 1024 // the kernel's default
	}
	return min(max(hold.CPUShares, minShares), maxShares)
}

// weight is what CPU shares are in control groups v2, as OCI runtimes and Kubernetes
// convert them of late: 1024 are 100, the default of either, and both ends meet
// (https://kubernetes.io/blog/2026/01/30/new-cgroup-v1-to-v2-cpu-conversion-formula/).
func weight(shares uint64) uint64 {
	switch {
	case shares <= minShares:
		return 1
	case shares >= maxShares:
		return maxWeight
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, l*l/612+l*125/612-7.0/34)))
}

// sharesOf are the fewest CPU shares of which a weight is made.
func sharesOf(of uint64) uint64 {
	return minShares + uint64(sort.Search(maxShares-minShares, func(n int) bool { return weight(minShares+uint64(n)) >= of }))
}

func (c *cgroups) writeV1(path string, hold agent.Resources) error {
	cpu, memory, pids := filesV1(hold)
	return errors.Join(writeGroup(filepath.Join(c.cpu, path), cpu), writeGroup(filepath.Join(c.memory, path), memory), writeGroup(filepath.Join(c.pids, path), pids))
}

func (c *cgroups) writeV2(path string, hold agent.Resources) error {
	files := slices.DeleteFunc(filesV2(hold), func(f groupFile) bool {
		controller, _, _ := strings.Cut(f.name, ".")
		return !slices.Contains(c.present, controller) // check has told of it
	})
	if exists(filepath.Join(c.memory, path, "memory.swap.max")) {
		files = append(files, groupFile{"memory.swap.max", "0"}) // as with a kubelet, no pod swaps, whether it has a limit or not
	}
	if err := writeGroup(filepath.Join(c.cpu, path), files); err != nil {
		return err
	}
	return enableControllers(filepath.Join(c.cpu, path))
}

func writeGroup(dir string, files []groupFile) error {
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.name), []byte(f.value), 0); err != nil {
			return err
		}
	}
	return nil
}

// weighBurstable gives the burstable pods together the CPU time that they ask for
// each; else they would share what one group gets by default.
func (c *cgroups) weighBurstable() error {
	pods, err := filepath.Glob(filepath.Join(c.cpu, c.prefix+burstable, "pod*"))
	if err != nil || len(pods) == 0 {
		return err
	}
	total := uint64(0)
	for _, pod := range pods {
		total += c.readShares(pod)
	}
	return c.setShares(c.prefix+burstable, total)
}

func (c *cgroups) readShares(dir string) uint64 {
	file := "cpu.shares"
	if c.unified {
		file = "cpu.weight"
	}
	content, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0 // it is gone
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 64)
	if c.unified && n > 0 {
		return sharesOf(n)
	}
	return n
}

func (c *cgroups) setShares(group string, total uint64) error {
	hold := agent.Resources{CPUShares: max(total, minShares)}
	if !slices.Contains(c.present, "cpu") {
		return nil
	}
	file := groupFile{"cpu.shares", strconv.FormatUint(shares(hold), 10)}
	if c.unified {
		file = groupFile{"cpu.weight", strconv.FormatUint(weight(shares(hold)), 10)}
	}
	return writeGroup(filepath.Join(c.cpu, group), []groupFile{file})
}
