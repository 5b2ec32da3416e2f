package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Check tells what is missing on this machine to run containers, all of it at
// once, each with what would mend it: root, the OCI runtime, conmon, namespaces,
// seccomp, and overlay mounts in the data directory. Control groups are checked
// by New, which can mount them. It leaves nothing behind.
func Check(config Config) error {
	var missing []error
	miss := func(format string, args ...any) { missing = append(missing, fmt.Errorf(format, args...)) }
	if os.Geteuid() != 0 {
		miss("containers need root: run Windlass as root")
	}
	if _, err := findProgram(config.RuntimePath, "runc"); err != nil {
		missing = append(missing, err)
	}
	if _, err := findProgram(config.ConmonPath, "conmon"); err != nil {
		missing = append(missing, err)
	}
	for _, ns := range []struct{ file, option string }{
		{"net", "NET_NS"}, {"pid", "PID_NS"}, {"ipc", "IPC_NS"}, {"uts", "UTS_NS"}, {"mnt", "NAMESPACES"},
	} {
		if !exists("/proc/self/ns/" + ns.file) {
			miss("the kernel has no %s namespaces: it must be built with CONFIG_%s", ns.file, ns.option)
		}
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil && !bytes.Contains(status, []byte("\nSeccomp:")) {
		miss("the kernel has no seccomp: it must be built with CONFIG_SECCOMP_FILTER")
	}
	if len(missing) == 0 {
		if err := checkOverlay(config.DataDir); err != nil {
			missing = append(missing, err)
		}
	}
	return errors.Join(missing...)
}

// findProgram returns the absolute path of a program: the one given, or the one
// of that name in PATH or where administrators' programs are. Each has a Debian
// package of its name.
func findProgram(path, name string) (string, error) {
	candidates := []string{path}
	if path == "" {
		candidates = []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name, "/sbin/" + name}
	}
	for _, candidate := range candidates {
		if found, err := exec.LookPath(candidate); err == nil {
			return filepath.Abs(found)
		}
	}
	if path != "" {
		return "", fmt.Errorf("%s: no such program (on Debian and Ubuntu: apt-get install %s)", path, name)
	}
	return "", fmt.Errorf("%s is not installed (on Debian and Ubuntu: apt-get install %s)", name, name)
}

// checkOverlay mounts an overlay in the data directory, as containers will.
func checkOverlay(dataDir string) error {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	dir, err := os.MkdirTemp(dataDir, ".check-")
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	defer os.RemoveAll(dir)
	layer := filepath.Join(dir, "layer")
	if err := os.Mkdir(layer, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	rootfs := filepath.Join(dir, "rootfs")
	err = mountRootfs(dir, rootfs, []string{layer})
	switch {
	case err == nil:
		return unmountAll(rootfs)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("the kernel has no overlay file system: load it (modprobe overlay), or build it with CONFIG_OVERLAY_FS: %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("not allowed to mount: Windlass needs CAP_SYS_ADMIN: %w", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("the file system of %s cannot carry overlay mounts (it may be an overlay or a network file system itself): use a data directory on ext4, xfs or btrfs: %w", dataDir, err)
	default:
		return err
	}
}

// check tells which controllers that containers need are missing.
func (c *cgroups) check() error {
	var missing []error
	for _, controller := range []string{"memory", "cpu", "pids"} {
		if !slices.Contains(c.present, controller) {
			missing = append(missing, fmt.Errorf("no cgroup controller %q below %s (boot option cgroup_enable=%s, or CONFIG_CGROUPS and its options)", controller, cgroupRoot, controller))
		}
	}
	return errors.Join(missing...)
}
