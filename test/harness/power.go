package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PowerOff ends a machine as a power cut would: its agent, its containers and
// what holds them are gone at once, and so are its network and its mounts. The
// disk stays. PowerOn boots it again.
func (m *Machine) PowerOff() error {
	if err := m.fleet.Cut(m.index); err != nil { // first of all: nobody says good-bye
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		victims, err := m.processes()
		if err != nil {
			return err
		}
		if len(victims) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of %s do not end", victims, m.Name)
		}
		for _, pid := range victims {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !m.gone {
		<-m.ended
	}
	m.gone, m.off = true, true
	m.space.close()
	return unmountBelow(m.Dir)
}

// PowerOn boots a machine that PowerOff ended: a new network, and the agent, as
// the system's service manager would start it.
func (m *Machine) PowerOn() error {
	space, err := m.fleet.connect(m.index)
	if err != nil {
		return err
	}
	m.space, m.off = space, false
	return m.Start()
}

// processes returns all that run on the machine: those in its network namespace,
// but for the one that holds it, and their descendants, which are its containers.
func (m *Machine) processes() ([]int, error) {
	own, err := os.Readlink(m.space.path())
	if err != nil {
		return nil, fmt.Errorf("the namespace of %s: %w", m.Name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents, of := map[int]int{}, map[int]bool{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == m.space.holder.Process.Pid {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		parents[pid], _ = strconv.Atoi(fields[1])
		if at, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns", "net")); err == nil && at == own {
			of[pid] = true
		}
	}
	var list []int
	for pid := range parents {
		for at := pid; at > 1; at = parents[at] {
			if of[at] {
				list = append(list, pid)
				break
			}
		}
	}
	return list, nil
}

// unmountBelow takes away all mounts below a directory, the deepest first.
func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	var failed []error
	for i := len(points) - 1; i >= 0; i-- {
		if err := syscall.Unmount(points[i], syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			failed = append(failed, fmt.Errorf("unmount %s: %w", points[i], err))
		}
	}
	return errors.Join(failed...)
}
