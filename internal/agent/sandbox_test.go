package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/volume"
)

// TestNames: what a pod is called, by itself and by others.
func TestNames(t *testing.T) {
	yes, override := true, "other.example"
	for _, test := range []struct {
		what         string
		name         string
		spec         corev1.PodSpec
		kernel, full string
		problem      string
	}{
		{what: "its name", name: "web-0", kernel: "web-0"},
		{what: "a hostname", name: "web-0", spec: corev1.PodSpec{Hostname: "h"}, kernel: "h"},
		{what: "a subdomain", name: "web-0", spec: corev1.PodSpec{Hostname: "h", Subdomain: "s"}, kernel: "h", full: "h.s.ns.svc.cluster.local"},
		{what: "the full one", name: "web-0", spec: corev1.PodSpec{Hostname: "h", Subdomain: "s", SetHostnameAsFQDN: &yes}, kernel: "h.s.ns.svc.cluster.local", full: "h.s.ns.svc.cluster.local"},
		{what: "the full one without a subdomain", name: "web-0", spec: corev1.PodSpec{SetHostnameAsFQDN: &yes}, kernel: "web-0"},
		{what: "too long", name: strings.Repeat("a", 50), spec: corev1.PodSpec{Subdomain: "s", SetHostnameAsFQDN: &yes}, full: strings.Repeat("a", 50) + ".s.ns.svc.cluster.local",
			problem: "is too long (64 characters is the max, 73 characters requested)"},
		{what: "a long name", name: strings.Repeat("a", 62) + "-" + "b", kernel: strings.Repeat("a", 62)},
		{what: "another name", name: "web-0", spec: corev1.PodSpec{Subdomain: "s", HostnameOverride: &override}, kernel: override},
		{what: "the node's", name: "web-0", spec: corev1.PodSpec{HostNetwork: true, NodeName: "n", Subdomain: "s"}, kernel: "n"},
	} {
		pod := &corev1.Pod{Spec: test.spec}
		pod.Name, pod.Namespace = test.name, "ns"
		kernel, err := kernelNameOf(pod, "cluster.local")
		full := fullNameOf(pod, "cluster.local")
		if kernel != test.kernel || full != test.full || (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %q, %q, %v; want %q, %q, %q", test.what, kernel, full, err, test.kernel, test.full, test.problem)
		}
	}
}

func TestScopes(t *testing.T) {
	yes, no := true, false
	for _, test := range []struct {
		spec     corev1.PodSpec
		pid, ipc Scope
	}{
		{corev1.PodSpec{}, ScopeOwn, ScopePod},
		{corev1.PodSpec{ShareProcessNamespace: &no}, ScopeOwn, ScopePod},
		{corev1.PodSpec{ShareProcessNamespace: &yes}, ScopePod, ScopePod},
		{corev1.PodSpec{HostPID: true, HostIPC: true}, ScopeHost, ScopeHost},
	} {
		pod := &corev1.Pod{Spec: test.spec}
		if pid, ipc := pidScope(pod), ipcScope(pod); pid != test.pid || ipc != test.ipc {
			t.Errorf("%+v: %q, %q", test, pid, ipc)
		}
	}
}

// TestSharedMemory: several containers share one /dev/shm, which is made once and
// goes with the pod's directory.
func TestSharedMemory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	a := &Agent{cfg: Config{DataDir: t.TempDir()}}
	pod := &corev1.Pod{}
	pod.UID = "uid"
	pod.Spec.Containers = make([]corev1.Container, 1)
	if mounts, err := a.sharedMemory(pod); len(mounts) != 0 || err != nil {
		t.Errorf("a single container: %v, %v", mounts, err)
	}
	pod.Spec.Containers = make([]corev1.Container, 2)
	for range 2 {
		mounts, err := a.sharedMemory(pod)
		if err != nil || len(mounts) != 1 || mounts[0].Destination != "/dev/shm" {
			t.Fatalf("%v, %v", mounts, err)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(mounts[0].Source, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || fs.Blocks*uint64(fs.Bsize) != 64<<20 {
			t.Errorf("type %x, %d bytes, %v", fs.Type, fs.Blocks*uint64(fs.Bsize), err)
		}
		if err := os.WriteFile(filepath.Join(mounts[0].Source, "f"), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	if err := volume.Remove(a.podDir(pod.UID)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(a.podDir(pod.UID)); !os.IsNotExist(err) {
		t.Errorf("the pod's directory: %v", err)
	}
	pod.Spec.HostIPC = true
	if mounts, err := a.sharedMemory(pod); err != nil || len(mounts) != 1 || mounts[0].Source != "/dev/shm" {
		t.Errorf("the node's: %v, %v", mounts, err)
	}
}
