package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootID names the time since the machine started: another boot, another ID.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return string(bytes.TrimSpace(data)), nil
}

// procState is what /proc/<pid>/stat tells of a process.
type procState struct {
	state      byte // R, S, D, Z, …
	startTicks uint64
}

// parseProcStat reads the content of /proc/<pid>/stat (proc_pid_stat(5)).
func parseProcStat(data []byte) (procState, error) {
	// The second field is the name in parentheses and may hold anything.
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return procState{}, errors.New("process status: no name")
	}
	fields := bytes.Fields(data[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return procState{}, errors.New("process status: too short")
	}
	ticks, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return procState{}, fmt.Errorf("process status: start time: %w", err)
	}
	return procState{state: fields[0][0], startTicks: ticks}, nil
}

// readProcState looks at a process; os.ErrNotExist when there is none.
func readProcState(pid int) (procState, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, syscall.ESRCH) {
		err = os.ErrNotExist
	}
	if err != nil {
		return procState{}, err
	}
	return parseProcStat(data)
}

// alive tells whether the record's process still runs: the same process, not a
// later one with its pid, and not a zombie.
func (rec *record) alive(boot string) bool {
	if rec.Pid <= 0 || rec.BootID != boot {
		return false
	}
	now, err := readProcState(rec.Pid)
	return err == nil && now.startTicks == rec.StartTicks && now.state != 'Z' && now.state != 'X'
}

// openProcess returns a pidfd of the record's process, or -1 when it has ended.
// The caller closes it.
func (rec *record) openProcess(boot string) (int, error) {
	if rec.Pid <= 0 {
		return -1, nil
	}
	fd, err := unix.PidfdOpen(rec.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", rec.Pid, err)
	}
	// Only now is the pid held: look whose it is.
	if !rec.alive(boot) {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// waitGone waits until the process of a pidfd has ended, and tells whether it did.
func waitGone(pidfd int, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		if left < 0 {
			return false
		}
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		if n > 0 {
			return true
		}
	}
}

// conmonPid returns the pid of the conmon that holds the container of a
// directory, or 0 when it has ended.
func conmonPid(dir, id string) int {
	data, err := os.ReadFile(dir + "/conmon.pid")
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return 0
	}
	if !names(pid, id) {
		return 0 // ended; empty for a zombie
	}
	return pid
}

// endConmon waits for the conmon of a container to end by itself, as it does
// once the container's process has, and kills it when it does not.
func endConmon(dir, id string, patience time.Duration) {
	pid := conmonPid(dir, id)
	if pid == 0 {
		return
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if conmonPid(dir, id) != pid || waitGone(fd, patience) {
		return
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
		waitGone(fd, time.Second)
	}
}

// endCreation ends the OCI runtime that creates the container of a directory. One
// whose conmon was killed dies by that, but a moment later, and until then goes on
// making what is to be deleted.
func endCreation(dir string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || !names(pid, dir) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		if names(pid, dir) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
			waitGone(fd, 10*time.Second)
		}
		unix.Close(fd)
	}
}

// names tells whether an argument of a process is the one given.
func names(pid int, argument string) bool {
	args, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && bytes.Contains(args, []byte("\x00"+argument+"\x00"))
}
