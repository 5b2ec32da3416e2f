package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// What the kernel takes as the name of a host, and DNS as a part of one.
const (
	hostNameMax = 64
	labelMax    = 63
)

// hostnameOf is the name by which a pod knows itself.
func hostnameOf(pod *corev1.Pod) string {
	name := pod.Name
	switch {
	case pod.Spec.HostnameOverride != nil:
		return *pod.Spec.HostnameOverride
	case pod.Spec.HostNetwork:
		return pod.Spec.NodeName
	case pod.Spec.Hostname != "":
		name = pod.Spec.Hostname
	}
	if len(name) > labelMax {
		name = strings.TrimRight(name[:labelMax], "-.")
	}
	return name
}

// fullNameOf is a pod's fully qualified name, "" if it has none.
func fullNameOf(pod *corev1.Pod, domain string) string {
	if pod.Spec.Subdomain == "" || pod.Spec.HostNetwork || pod.Spec.HostnameOverride != nil {
		return ""
	}
	return fmt.Sprintf("%s.%s.%s.svc.%s", hostnameOf(pod), pod.Spec.Subdomain, pod.Namespace, domain)
}

// kernelNameOf is what the kernel gives a pod's processes as their host's name.
// The error is that of a pod that asks for a longer one than there can be.
func kernelNameOf(pod *corev1.Pod, domain string) (string, error) {
	full := fullNameOf(pod, domain)
	if full == "" || pod.Spec.SetHostnameAsFQDN == nil || !*pod.Spec.SetHostnameAsFQDN {
		return hostnameOf(pod), nil
	}
	if len(full) > hostNameMax {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)",
			full, hostNameMax, len(full))
	}
	return full, nil
}

// pidScope is with whom a pod's containers share their processes.
func pidScope(pod *corev1.Pod) Scope {
	switch share := pod.Spec.ShareProcessNamespace; {
	case pod.Spec.HostPID:
		return ScopeHost
	case share != nil && *share:
		return ScopePod
	}
	return ScopeOwn
}

func ipcScope(pod *corev1.Pod) Scope {
	if pod.Spec.HostIPC {
		return ScopeHost
	}
	return ScopePod
}

// sharedMemory is the /dev/shm that a pod's containers share: the node's, or one
// of their own if there are several. It is of the size that container runtimes
// give it.
func (a *Agent) sharedMemory(pod *corev1.Pod) ([]Mount, error) {
	const where, options = "/dev/shm", "mode=1777,size=64m"
	if pod.Spec.HostIPC {
		return []Mount{{Source: where, Destination: where}}, nil
	}
	if len(pod.Spec.Containers)+len(pod.Spec.InitContainers) < 2 {
		return nil, nil
	}
	dir := filepath.Join(a.podDir(pod.UID), "shm")
	mount := []Mount{{Source: dir, Destination: where}}
	a.shm.Lock()
	defer a.shm.Unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var own, parent unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &own), unix.Stat(filepath.Dir(dir), &parent)); err != nil {
		return nil, err
	}
	if own.Dev != parent.Dev { // it is mounted
		return mount, nil
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return nil, fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return mount, nil
}
