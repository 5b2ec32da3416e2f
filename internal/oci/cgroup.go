package oci

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where cgroup hierarchies are mounted, on every distribution.
const cgroupRoot = "/sys/fs/cgroup"

// cgroups is the part of the control group tree that belongs to one data directory.
type cgroups struct {
	unified bool     // cgroup v2 alone
	mounts  []string // the root of each hierarchy; one of them with v2
	memory  string   // the one with the memory controller; "" when there is none
	memsw   bool     // memory and swap can be limited together (v1)
	prefix  string   // "/windlass/<hash>"
	present []string // the controllers of all of them
	conmon  string   // the group for conmon; "" to leave it where we are

	cpu, cpuacct, pids string // as memory

	mu sync.Mutex // held while pods' groups are made and removed
}

// openCgroups finds the hierarchies, and mounts them when this mount namespace
// has none.
func openCgroups(dataDir string, log *slog.Logger) (*cgroups, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found := parseCgroupMounts(mountinfo)
	if len(found) == 0 {
		log.Info("No cgroup hierarchy is mounted here: mounting them", "path", cgroupRoot)
		if err := mountCgroups(); err != nil {
			return nil, fmt.Errorf("mount control groups at %s: %w", cgroupRoot, err)
		}
		if mountinfo, err = os.ReadFile("/proc/self/mountinfo"); err != nil {
			return nil, err
		}
		found = parseCgroupMounts(mountinfo)
	}
	sum := sha256.Sum256([]byte(dataDir))
	c := &cgroups{prefix: "/windlass/" + hex.EncodeToString(sum[:6])}
	conmonRoot := ""
	for _, m := range found {
		switch {
		case m.unified && m.path == cgroupRoot:
			c.unified, conmonRoot = true, m.path
			c.memory, c.cpu, c.cpuacct, c.pids = m.path, m.path, m.path, m.path
			controllers, err := os.ReadFile(filepath.Join(m.path, "cgroup.controllers"))
			if err != nil {
				return nil, err
			}
			c.present = strings.Fields(string(controllers))
		case slices.Contains(m.options, "name=systemd") && exists("/run/systemd/system"):
			conmonRoot = m.path // else stopping our service would stop it too
		}
		if !m.unified {
			c.place(m)
		}
		c.mounts = append(c.mounts, m.path)
		c.present = append(c.present, m.options...)
	}
	if conmonRoot != "" {
		c.conmon = filepath.Join(conmonRoot, c.prefix, "conmon")
	}
	return c, nil
}

// cgroupMount is one mounted hierarchy.
type cgroupMount struct {
	path    string
	unified bool
	options []string // of a v1 hierarchy: its controllers among others
}

// parseCgroupMounts picks the hierarchies below cgroupRoot out of the content of
// /proc/self/mountinfo (proc_pid_mountinfo(5)).
func parseCgroupMounts(mountinfo []byte) []cgroupMount {
	var found []cgroupMount
	for line := range strings.Lines(string(mountinfo)) {
		left, right, ok := strings.Cut(line, " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if !ok || len(before) < 5 || len(after) < 3 {
			continue
		}
		path := before[4]
		if path != cgroupRoot && !strings.HasPrefix(path, cgroupRoot+"/") {
			continue
		}
		if after[0] == "cgroup" || after[0] == "cgroup2" {
			found = append(found, cgroupMount{
				path: path, unified: after[0] == "cgroup2", options: strings.Split(after[2], ","),
			})
		}
	}
	return found
}

// parseHierarchies lists the v1 hierarchies that the kernel has, from the content
// of /proc/self/cgroup (cgroups(7)): the controllers of each, as "cpu,cpuacct" or
// "name=systemd".
func parseHierarchies(selfCgroup []byte) []string {
	var names []string
	scanner := bufio.NewScanner(bytes.NewReader(selfCgroup))
	for scanner.Scan() {
		fields := strings.SplitN(scanner.Text(), ":", 3)
		if len(fields) == 3 && fields[1] != "" && !strings.Contains(fields[1], "/") {
			names = append(names, fields[1])
		}
	}
	return names
}

// mountCgroups mounts the hierarchies that the kernel has where every
// distribution has them: the one of v2, or those of v1 in directories named after
// their controllers, with the one of v2 as "unified" beside them.
func mountCgroups() error {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME
	names := parseHierarchies(self)
	if !slices.ContainsFunc(names, func(name string) bool { return !strings.HasPrefix(name, "name=") }) {
		return unix.Mount("cgroup2", cgroupRoot, "cgroup2", flags, "")
	}
	if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", flags, "mode=755"); err != nil {
		return err
	}
	for _, name := range names {
		options, dirName := name, strings.TrimPrefix(name, "name=")
		if dirName != name {
			options = "none," + name
		}
		dir := filepath.Join(cgroupRoot, dirName)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("cgroup", dir, "cgroup", flags, options); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if controllers := strings.Split(dirName, ","); len(controllers) > 1 {
			for _, controller := range controllers {
				if err := os.Symlink(dirName, filepath.Join(cgroupRoot, controller)); err != nil {
					return err
				}
			}
		}
	}
	dir := filepath.Join(cgroupRoot, "unified")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return unix.Mount("cgroup2", dir, "cgroup2", flags, "")
}

// processes lists what runs in a group and in those below it, which a privileged
// container may make.
func (c *cgroups) processes(group string) []int {
	var pids []int
	for _, root := range c.mounts {
		_ = filepath.WalkDir(filepath.Join(root, group), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil // it is gone, and nothing runs in it
			}
			data, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, field := range bytes.Fields(data) {
				if pid, err := strconv.Atoi(string(field)); err == nil && pid > 1 && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// kill ends every process in a group.
func (c *cgroups) kill(group string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		pids := c.processes(group)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of control group %s do not end", pids, group)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// remove deletes a container's group, and its pod's when it was the last.
func (c *cgroups) remove(group string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, root := range c.mounts {
		if err := removeGroup(filepath.Join(root, group)); err != nil {
			errs = append(errs, fmt.Errorf("remove control group: %w", err))
			continue
		}
		_ = unix.Rmdir(filepath.Join(root, filepath.Dir(group))) // another container may be in it
	}
	return errors.Join(append(errs, c.weighBurstable())...)
}

// tidy deletes the data directory's own groups where nothing is in them. Nobody
// may be making a container's meanwhile.
func (c *cgroups) tidy() {
	for _, root := range c.mounts {
		for _, dir := range []string{c.prefix + burstable, c.prefix + bestEffort, c.prefix + "/conmon", c.prefix, filepath.Dir(c.prefix)} {
			_ = unix.Rmdir(filepath.Join(root, dir)) // fails while something is
		}
	}
}

// removeGroup deletes a group and those below it.
func removeGroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeGroup(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	// A process that has just ended leaves its group a moment later.
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
	}
}

// oomKilled tells whether the kernel has killed a process of a group for want of
// memory.
func (c *cgroups) oomKilled(group string) bool {
	file := "memory.oom_control"
	if c.unified {
		file = "memory.events"
	}
	data, err := os.ReadFile(filepath.Join(c.memory, group, file))
	return err == nil && parseOOMKills(data) > 0
}

// parseOOMKills reads the count of kills from memory.events (v2) or
// memory.oom_control (v1): the line "oom_kill N".
func parseOOMKills(data []byte) uint64 {
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "oom_kill" {
			n, _ := strconv.ParseUint(fields[1], 10, 64)
			return n
		}
	}
	return 0
}

// adoptConmon moves a conmon into the group for them.
func (c *cgroups) adoptConmon(pid int) error {
	if c.conmon == "" {
		return nil
	}
	if err := os.MkdirAll(c.conmon, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.conmon, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
