package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"windlass.dev/windlass/internal/agent"
)

// Resize implements agent.Runtime. It writes the control groups itself: a container's
// OCI runtime is not asked, and keeps no copy of them that it would go by.
func (r *Runtime) Resize(ctx context.Context, podUID string, pod agent.PodGroup, grants map[string]agent.Grant) (done []string, err error) {
	path := r.cgroups.pod(classOf(pod.QOS), podUID)
	ids := slices.Sorted(maps.Keys(grants))
	if err := r.cgroups.growPod(path, pod.Resources); err != nil {
		return nil, err
	}
	var errs []error
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		if err := r.resizeContainer(id, grants[id]); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, id)
	}
	if len(errs) > 0 {
		return done, errors.Join(errs...)
	}
	return done, r.cgroups.shrinkPod(path, pod.Resources)
}

// resizeContainer holds one container to what it is granted, and puts that on record.
func (r *Runtime) resizeContainer(id string, grant agent.Grant) error {
	c := r.find(id)
	if c == nil {
		return nil
	}
	defer c.mu.Unlock()
	if c.rec.Phase != agent.ContainerRunning {
		return nil
	}
	group := r.cgroups.group(&c.rec)
	if err := r.cgroups.inUse(group, "container "+c.rec.Name, grant.Resources.MemoryLimit); err != nil {
		return err
	}
	if err := r.cgroups.hold(group, grant.Resources); err != nil {
		return fmt.Errorf("control group of container %s: %w", c.rec.Name, err)
	}
	c.rec.Granted = &grant.Granted
	return writeRecord(r.containerDir(id), c.rec)
}

// growPod gives a pod's group what it is to have where that is more than it has: none
// of its containers may have more than the pod.
func (c *cgroups) growPod(path string, hold agent.Resources) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := os.Stat(filepath.Join(c.cpu, path)); errors.Is(err, os.ErrNotExist) {
		return nil // nothing of it runs
	}
	return c.writePod(path, hold.AtLeast(c.held(path, hold)))
}

// shrinkPod gives a pod's group what it is to have, once its containers have theirs.
func (c *cgroups) shrinkPod(path string, hold agent.Resources) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := os.Stat(filepath.Join(c.cpu, path)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := c.inUse(path, "pod", hold.MemoryLimit); err != nil {
		return err
	}
	return errors.Join(c.writePod(path, hold), c.weighBurstable())
}

func (c *cgroups) writePod(path string, hold agent.Resources) error {
	if c.unified {
		return c.writeV2(path, hold)
	}
	c.loosenEnded(path, hold)
	return c.writeV1(path, hold)
}

// loosenEnded takes the CPU quota from the groups in a pod's in which nothing runs any
// more: with control groups v1 a group cannot be given less than one below it has.
func (c *cgroups) loosenEnded(path string, hold agent.Resources) {
	if hold.CPUQuota == 0 {
		return
	}
	entries, err := os.ReadDir(filepath.Join(c.cpu, path))
	if err != nil {
		return
	}
	for _, entry := range entries {
		dir := filepath.Join(c.cpu, path, entry.Name())
		if procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); entry.IsDir() && err == nil && len(procs) == 0 {
			_ = os.WriteFile(filepath.Join(dir, "cpu.cfs_quota_us"), []byte("-1"), 0)
		}
	}
}

// held reads what a group is held to, as far as it is a limit; the rest is that of like.
func (c *cgroups) held(path string, like agent.Resources) agent.Resources {
	read := func(root, name string) string {
		content, err := os.ReadFile(filepath.Join(root, path, name))
		if err != nil {
			return ""
		}
		return string(content)
	}
	if c.unified {
		like.CPUQuota, like.MemoryLimit = parseLimit(read(c.cpu, "cpu.max")), parseLimit(read(c.memory, "memory.max"))
		return like
	}
	like.CPUQuota, like.MemoryLimit = parseLimit(read(c.cpu, "cpu.cfs_quota_us")), parseLimit(read(c.memory, "memory.limit_in_bytes"))
	return like
}

// parseLimit reads the first number of a control group's file, 0 for none: the word
// "max", -1, or the greatest that control groups v1 have, which is no limit.
func parseLimit(content string) int64 {
	first, _, _ := strings.Cut(strings.TrimSpace(content), " ")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil || n < 0 || n >= 1<<62 {
		return 0
	}
	return n
}

// inUse refuses a limit of memory below what a group cannot give back: the kernel would
// refuse it (v1), or end its processes (v2).
func (c *cgroups) inUse(group, what string, limit int64) error {
	used, err := c.usage(group)
	if err != nil || limit == 0 || used.Memory <= limit {
		return nil
	}
	return fmt.Errorf("attempting to set %s memory limit (%d) below current usage (%d)", what, limit, used.Memory)
}

// hold sets the CPU and memory of a container's group.
func (c *cgroups) hold(group string, hold agent.Resources) error {
	cpu, memory := c.containerFiles(group, hold)
	var err error
	if slices.Contains(c.present, "cpu") {
		err = writeGroup(filepath.Join(c.cpu, group), cpu)
	}
	if slices.Contains(c.present, "memory") {
		err = cmp.Or(err, writeGroup(filepath.Join(c.memory, group), memory))
	}
	return err
}

// containerFiles are the settings of a container's group, in the order in which they
// are to be written.
func (c *cgroups) containerFiles(group string, hold agent.Resources) (cpu, memory []groupFile) {
	if c.unified {
		all := filesV2(hold)
		cpu, memory = all[:2], all[2:3]
		if hold.MemoryLimit > 0 && exists(filepath.Join(c.memory, group, "memory.swap.max")) {
			memory = append([]groupFile{{"memory.swap.max", "0"}}, memory...)
		}
		return cpu, memory
	}
	cpu, memory, _ = filesV1(hold)
	if c.memsw && hold.MemoryLimit > 0 {
		together := groupFile{"memory.memsw.limit_in_bytes", memory[0].value}
		if before := c.held(group, hold).MemoryLimit; before != 0 && before < hold.MemoryLimit {
			return cpu, []groupFile{together, memory[0]} // the two together are never less than memory alone
		}
		memory = append(memory, together)
	}
	return cpu, memory
}
