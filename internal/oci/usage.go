package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/eviction"
)

var _ agent.Meter = (*Runtime)(nil)

// Usage implements agent.Meter. A container that is being started or removed, or
// that ends meanwhile, is left out.
func (r *Runtime) Usage(ctx context.Context) (agent.Usage, error) {
	usage := agent.Usage{At: time.Now()}
	var err error
	if usage.Node, err = nodeUsage(); err != nil {
		return usage, err
	}
	for _, rec := range r.runningNow() {
		if err := ctx.Err(); err != nil {
			return usage, err
		}
		used, err := r.cgroups.usage(r.cgroups.group(&rec))
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return usage, fmt.Errorf("usage of container %s: %w", rec.ID, err)
		default:
			usage.Containers = append(usage.Containers, agent.ContainerUsage{ID: rec.ID, PodUID: rec.PodUID, Name: rec.Name, StartedAt: rec.StartedAt, Used: used})
		}
	}
	return usage, nil
}

// Written implements agent.Meter.
func (r *Runtime) Written(ctx context.Context, id string) (eviction.Disk, error) {
	if !validID.MatchString(id) {
		return eviction.Disk{}, fmt.Errorf("container id %q: must match %s", id, validID)
	}
	return agent.DiskUsage(ctx, filepath.Join(r.containerDir(id), "upper"))
}

// runningNow returns the records of the containers that run and that nobody is
// changing.
func (r *Runtime) runningNow() []record {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.containers))
	r.mu.Unlock()
	var running []record
	for _, c := range all {
		if !c.mu.TryLock() {
			continue // for as long as its start takes
		}
		if !c.gone && c.rec.Phase == agent.ContainerRunning {
			running = append(running, c.rec)
		}
		c.mu.Unlock()
	}
	return running
}

// usage reads what a group has used.
func (c *cgroups) usage(group string) (agent.Used, error) {
	var used agent.Used
	read := func(root, name string) []byte {
		content, err := os.ReadFile(filepath.Join(root, group, name))
		if err != nil {
			return nil
		}
		return content
	}
	if c.unified {
		used.CPU = time.Duration(field(read(c.cpuacct, "cpu.stat"), "usage_usec")) * time.Microsecond
		used.Memory = number(read(c.memory, "memory.current")) - field(read(c.memory, "memory.stat"), "inactive_file")
	} else {
		used.CPU = time.Duration(number(read(c.cpuacct, "cpuacct.usage")))
		used.Memory = number(read(c.memory, "memory.usage_in_bytes")) - field(read(c.memory, "memory.stat"), "total_inactive_file")
	}
	used.Memory = max(used.Memory, 0)
	used.Processes = number(read(c.pids, "pids.current"))
	if _, err := os.Stat(filepath.Join(c.memory, group)); err != nil {
		return used, err // it is gone
	}
	return used, nil
}

// number reads a file that is one number; what is none reads as 0.
func number(content []byte) int64 {
	n, err := strconv.ParseInt(string(bytes.TrimSpace(content)), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// field reads the number after a name at the beginning of a line, in a file of
// lines such as memory.stat; 0 if there is none.
func field(content []byte, name string) int64 {
	for line := range bytes.Lines(content) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return number(rest)
		}
	}
	return 0
}

// userHZ is the unit of times in /proc/stat, the same on every architecture.
const userHZ = 100

// nodeUsage reads what the whole machine uses.
func nodeUsage() (agent.Used, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return agent.Used{}, err
	}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return agent.Used{}, err
	}
	return agent.Used{CPU: parseBusy(stat), Memory: parseWorkingSet(meminfo)}, nil
}

// parseBusy reads the time that all CPUs together were busy from /proc/stat
// (proc_stat(5)): all but idle and iowait, and guests once only.
func parseBusy(stat []byte) time.Duration {
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 5 || fields[0] != "cpu" {
		return 0
	}
	var ticks int64
	for i, text := range fields[1:min(len(fields), 9)] {
		if i != 3 && i != 4 {
			ticks += number([]byte(text)) & (1<<52 - 1)
		}
	}
	return time.Duration(ticks) * (time.Second / userHZ)
}

// parseWorkingSet reads from /proc/meminfo the memory in use less the pages of
// files that were not used lately, in bytes, as a kubelet counts it.
func parseWorkingSet(meminfo []byte) int64 {
	kib := func(name string) int64 {
		for line := range bytes.Lines(meminfo) {
			if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
				return number(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))) & (1<<50 - 1)
			}
		}
		return 0
	}
	return max(kib("MemTotal")-kib("MemFree")-kib("Inactive(file)"), 0) << 10
}
