package oci

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// joined are the namespaces of its pod that a container joins, as paths; "" makes
// one of its own.
type joined struct{ pid, ipc, users string }

// podShare is what the containers of a pod share beside processes, whichever of
// them runs. It lasts while the pod has a container on record and this process
// runs; a later one takes it over from a container that runs.
type podShare struct {
	mu    sync.Mutex // held while a namespace is found or made
	first sync.Mutex // held while a container starts that may be the one to make the IPC namespace
	ipc   *os.File   // the namespace
}

// join finds the namespaces that a container shares with those of its pod, and
// makes those that are not there.
func (r *Runtime) join(ctx context.Context, spec *agent.ContainerSpec) (ns joined, err error) {
	if spec.PIDOf != "" {
		target, err := r.running(spec.PIDOf)
		if err != nil {
			return ns, fmt.Errorf("share processes: %w", err)
		}
		ns.pid = fmt.Sprintf("/proc/%d/ns/pid", target.Pid)
	}
	if spec.PID != agent.ScopePod && spec.IPC != agent.ScopePod {
		return ns, nil
	}
	share := r.share(spec.PodUID)
	share.mu.Lock()
	defer share.mu.Unlock()
	if spec.PID == agent.ScopePod && spec.PIDOf == "" {
		pid, err := r.startPause(ctx, spec)
		if err != nil {
			return ns, err
		}
		ns.pid = fmt.Sprintf("/proc/%d/ns/pid", pid)
	}
	if spec.IPC == agent.ScopePod {
		if share.ipc == nil && spec.Users != nil {
			return ns, nil // the first container makes it: it has to belong to their user namespace
		}
		if share.ipc == nil {
			if share.ipc, err = newIPCNamespace(); err != nil {
				return ns, fmt.Errorf("make the pod's IPC namespace: %w", err)
			}
		}
		ns.ipc = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), share.ipc.Fd())
	}
	return ns, nil
}

// makesIPC is for containers with users of their own, of whose pod the first makes the
// IPC namespace: they start one by one. What it returns is called when c has started,
// or could not be.
func (r *Runtime) makesIPC(podUID string, c *container) func() {
	share := r.share(podUID)
	share.first.Lock()
	return func() {
		defer share.first.Unlock()
		share.mu.Lock()
		defer share.mu.Unlock()
		r.takeOver(&c.rec)
	}
}

// share returns what the containers of a pod share.
func (r *Runtime) share(podUID string) *podShare {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shares[podUID] == nil {
		r.shares[podUID] = &podShare{}
	}
	return r.shares[podUID]
}

// takeOver finds the shared namespaces of a pod in one of its containers that
// runs. Nobody else uses what the pod shares.
func (r *Runtime) takeOver(rec *record) {
	if !rec.SharedIPC || rec.Phase != agent.ContainerRunning || !rec.alive(r.boot) {
		return
	}
	share := r.share(rec.PodUID)
	if share.ipc != nil {
		return
	}
	var err error
	if share.ipc, err = os.Open(fmt.Sprintf("/proc/%d/ns/ipc", rec.Pid)); err != nil { // it has just ended
		share.ipc = nil
	}
}

// unshare lets go of what the containers of a pod have shared, if it has none any
// more. r.mu is held.
func (r *Runtime) unshare(podUID string) {
	for _, c := range r.containers {
		if c.podUID == podUID {
			return
		}
	}
	if share := r.shares[podUID]; share != nil && share.ipc != nil {
		share.ipc.Close()
	}
	delete(r.shares, podUID)
}

// newIPCNamespace makes an IPC namespace, which lives as long as the file is open.
func newIPCNamespace() (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result, 1)
	var unshare func()
	unshare = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() { // the first thread never ends, and what it has /proc tells of the process
			defer runtime.UnlockOSThread()
			done := make(chan struct{})
			go func() { defer close(done); unshare() }() // on another, while this one is held
			<-done
			return
		}
		// It is never unlocked: the thread ends with the goroutine.
		if err := unix.Unshare(unix.CLONE_NEWIPC); err != nil {
			made <- result{err: err}
			return
		}
		file, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/ns/ipc", os.Getpid(), unix.Gettid()))
		made <- result{file, err}
	}
	go unshare()
	r := <-made
	return r.file, r.err
}

func namespaces(want *agent.ContainerSpec, ns joined, unified bool) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{}
	if want.Users != nil {
		list = append(list, specs.LinuxNamespace{Type: specs.UserNamespace, Path: ns.users})
	}
	list = append(list, []specs.LinuxNamespace{{Type: specs.UTSNamespace}, {Type: specs.MountNamespace}}...)
	if want.PID != agent.ScopeHost {
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: ns.pid})
	}
	if want.IPC != agent.ScopeHost {
		list = append(list, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: ns.ipc})
	}
	if unified {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if want.NetNS != "" {
		list = append(list, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: want.NetNS})
	}
	return list
}
