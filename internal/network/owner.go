package network

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"windlass.dev/windlass/internal/agent"
)

// makeOwnedNamespace makes a network namespace that belongs to a new user namespace,
// with these users, and mounts it at path. The user namespace lives as long as it:
// who holds the one can ask the kernel for the other (ioctl_nsfs(2)).
func makeOwnedNamespace(path string, users agent.UserRange) error {
	if err := removeNamespace(path); err != nil {
		return err
	}
	child, err := startInNamespaces(users)
	if err != nil {
		return fmt.Errorf("make a user namespace of %d users from %d on: %w", users.Size, users.First, err)
	}
	defer child.end()
	if err := bindNamespace(fmt.Sprintf("/proc/%d/ns/net", child.pid), path); err != nil {
		return err
	}
	ns, err := openNamespace(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return inNamespace(enter(ns), func() error { return setSysctls(podSysctls) })
}

// held is a process that does nothing: it is there for its namespaces.
type held struct {
	pid int
	end func()
}

// startInNamespaces starts a process in a new user namespace and a new network
// namespace that belongs to it. It is this program, stopped before its first
// instruction (PTRACE_TRACEME, ptrace(2)).
func startInNamespaces(users agent.UserRange) (held, error) {
	type result struct {
		held held
		err  error
	}
	started, over := make(chan result, 1), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // who traces a process is a thread, and its end is the process's
		defer runtime.UnlockOSThread()
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(users.First), Size: int(users.Size)}}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Ptrace: true, Pdeathsig: syscall.SIGKILL,
		}
		if err := cmd.Start(); err != nil {
			started <- result{err: err}
			return
		}
		started <- result{held: held{pid: cmd.Process.Pid}}
		<-over
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	r := <-started
	r.held.end = func() { close(over); <-ended }
	return r.held, r.err
}
