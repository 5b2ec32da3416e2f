package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent"
)

// host is what a container's specification depends on beside what is asked for.
type host struct {
	rootfs       string
	shared       joined
	cgroupsPath  string
	unified      bool // cgroup v2
	oomGroup     bool // the kernel can end a container as a whole for want of memory (v2)
	memsw        bool // memory and swap can be limited together (v1)
	user         identity
	capabilities uint64 // those that this process holds
	oomScoreAdj  int    // of this process: without CAP_SYS_RESOURCE none lower can be given
	appArmor     bool   // the kernel enforces AppArmor profiles
	x32          bool   // the kernel answers system calls of the x32 ABI
	devices      []specs.LinuxDevice
}

// buildSpec writes the OCI runtime specification of a container
// (github.com/opencontainers/runtime-spec, config.md and config-linux.md), and
// notes on what this host cannot give.
func buildSpec(want *agent.ContainerSpec, on host) (*specs.Spec, []string, error) {
	capabilities, denied := containerCapabilities(&want.Security, on.capabilities)
	var notes []string
	for _, name := range denied {
		notes = append(notes, name+" cannot be given: Windlass does not have it itself")
	}
	oom := want.Resources.OOMScoreAdj
	if oom < on.oomScoreAdj && on.capabilities&capSysResource == 0 {
		notes = append(notes, fmt.Sprintf("the OOM score adjustment is %d instead of %d: lowering it takes CAP_SYS_RESOURCE", on.oomScoreAdj, oom))
		oom = on.oomScoreAdj
	}
	spec := &specs.Spec{
		Version:  "1.0.2",
		Hostname: want.Hostname,
		Root:     &specs.Root{Path: on.rootfs, Readonly: want.Security.ReadOnlyRootFilesystem},
		Mounts:   mounts(want),
		Process: &specs.Process{
			Terminal:        want.TTY,
			User:            processUser(want.Security, on.user),
			Args:            want.Args,
			Env:             processEnv(want.Env, want.TTY),
			Cwd:             want.WorkingDir,
			Capabilities:    &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
			NoNewPrivileges: want.Security.NoNewPrivileges,
			OOMScoreAdj:     &oom,
		},
		Linux: &specs.Linux{
			CgroupsPath: on.cgroupsPath,
			Namespaces:  namespaces(want, on.shared, on.unified),
			Resources:   resources(want, on),
			Sysctl:      want.Security.Sysctls,

			UIDMappings: userMappings(want.Users),
			GIDMappings: userMappings(want.Users),

			RootfsPropagation: rootPropagation(want.Mounts),
		},
	}
	if spec.Process.Cwd == "" {
		spec.Process.Cwd = "/"
	}
	note := appArmor(spec, want.Security.AppArmor, on.appArmor)
	if note != "" {
		notes = append(notes, note)
	}
	if want.Security.Privileged {
		spec.Linux.Devices = on.devices
		return spec, notes, nil
	}
	if !want.Security.UnmaskedProc {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = maskedPaths, readonlyPaths
	}
	var err error
	if spec.Linux.Seccomp, err = seccompFilter(spec, &want.Security, on.x32); err != nil {
		return nil, nil, err
	}
	return spec, notes, nil
}

// seccompFilter is what the kernel holds a container's system calls to: the
// profile that it names, else the default one, which is Docker's.
//
// Where the kernel has no x32 ABI the default one does without rules for it, which
// takes a third off what the filter costs at every start of a container: who makes
// such a call is ended by SIGSYS instead of being told ENOSYS.
func seccompFilter(spec *specs.Spec, sec *agent.Security, x32 bool) (filter *specs.LinuxSeccomp, err error) {
	switch {
	case sec.SeccompUnconfined:
		return nil, nil
	case sec.SeccompProfile != nil:
		filter, err = seccomp.LoadProfile(string(sec.SeccompProfile), spec)
	default:
		filter, err = seccomp.GetDefaultProfile(spec)
	}
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if sec.SeccompProfile == nil && !x32 {
		filter.Architectures = slices.DeleteFunc(filter.Architectures, func(arch specs.Arch) bool { return arch == specs.ArchX32 })
	}
	return filter, nil
}

// kernelHasX32 tells whether the kernel answers system calls of the x32 ABI.
func kernelHasX32() bool {
	const bit = 0x40000000 // __X32_SYSCALL_BIT
	if runtime.GOARCH != "amd64" {
		return false
	}
	_, _, errno := unix.RawSyscall(bit|unix.SYS_GETPID, 0, 0, 0)
	return errno == 0
}

// appArmor puts a container under the profile that it names, where the kernel
// has AppArmor. It returns a note on what it cannot give.
func appArmor(spec *specs.Spec, profile *corev1.AppArmorProfile, enforced bool) (note string) {
	switch {
	case profile == nil || profile.Type == corev1.AppArmorProfileTypeUnconfined:
	case !enforced:
		return "no AppArmor profile is applied: this kernel has no AppArmor"
	case profile.Type == corev1.AppArmorProfileTypeLocalhost && profile.LocalhostProfile != nil:
		spec.Process.ApparmorProfile = *profile.LocalhostProfile
	default:
		return "no AppArmor profile is applied: Windlass has no default one"
	}
	return ""
}

// The parts of /proc and /sys that Docker hides from containers, or lets them only read.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
		"/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func processUser(sec agent.Security, who identity) specs.User {
	u := specs.User{UID: who.uid, GID: who.gid, AdditionalGids: slices.Clone(who.groups)}
	if sec.StrictGroups {
		u.AdditionalGids = nil
	}
	if sec.RunAsGroup != nil {
		u.GID = uint32(*sec.RunAsGroup)
	}
	for _, g := range sec.SupplementalGroups {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	u.AdditionalGids = append(u.AdditionalGids, u.GID) // so that leaving the group does not lift what files deny it
	slices.Sort(u.AdditionalGids)
	u.AdditionalGids = slices.Compact(u.AdditionalGids)
	return u
}

// processEnv adds what every Unix program expects and Docker gives. (HOME is the
// OCI runtime's to add.)
func processEnv(env []string, tty bool) []string {
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(s string) bool { return len(s) > len(name) && s[:len(name)] == name && s[len(name)] == '=' })
	}
	env = slices.Clone(env)
	if !has("PATH") {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if tty && !has("TERM") {
		env = append(env, "TERM=xterm")
	}
	return env
}

// mounts are those that the OCI runtime specification asks of every Linux
// container, and the ones asked for.
func mounts(want *agent.ContainerSpec) []specs.Mount {
	access := "ro"
	if want.Security.Privileged {
		access = "rw"
	}
	cgroup := []string{"nosuid", "noexec", "nodev", "relatime", access}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroup},
	}
	for _, m := range want.Mounts {
		list = slices.DeleteFunc(list, func(other specs.Mount) bool { return other.Destination == m.Destination })
		list = append(list, specs.Mount{
			Destination: m.Destination, Type: "bind", Source: m.Source, Options: bindOptions(m),
		})
	}
	// A mount must come after the one it lies in.
	slices.SortStableFunc(list, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	return list
}

// bindOptions are the mount options of a volume, as the OCI runtime names them.
func bindOptions(m agent.Mount) []string {
	access, propagation := "rw", "rprivate"
	switch {
	case m.ReadOnly && recursiveReadOnly(m):
		access = "rro"
	case m.ReadOnly:
		access = "ro"
	}
	switch m.Propagation {
	case corev1.MountPropagationHostToContainer:
		propagation = "rslave"
	case corev1.MountPropagationBidirectional:
		propagation = "rshared"
	}
	options := []string{"rbind", propagation, access}
	if m.NoExec {
		options = append(options, "noexec")
	}
	return options
}

// recursiveReadOnly: what is mounted below is read-only too, where that is asked
// for. Every kernel and OCI runtime that Windlass runs on can do it (Linux 5.12,
// runc 1.1).
func recursiveReadOnly(m agent.Mount) bool {
	return m.Recursive == corev1.RecursiveReadOnlyEnabled || m.Recursive == corev1.RecursiveReadOnlyIfPossible
}

// rootPropagation is that of the container's root, which has to let through what
// the mounts ask for; "" is the OCI runtime's.
func rootPropagation(mounts []agent.Mount) string {
	propagation := ""
	for _, m := range mounts {
		switch m.Propagation {
		case corev1.MountPropagationBidirectional:
			return "rshared"
		case corev1.MountPropagationHostToContainer:
			propagation = "rslave"
		}
	}
	return propagation
}

// depth counts the components of an absolute path.
func depth(path string) int {
	n := 0
	for p := filepath.Clean(path); p != "/" && p != "."; p = filepath.Dir(p) {
		n++
	}
	return n
}

func resources(want *agent.ContainerSpec, on host) *specs.LinuxResources {
	ask := want.Resources
	res := &specs.LinuxResources{
		// The OCI runtime adds those devices that every container may use.
		Devices: []specs.LinuxDeviceCgroup{{Allow: want.Security.Privileged, Access: "rwm"}},
	}
	cpu := &specs.LinuxCPU{}
	unified := map[string]string{}
	switch {
	case ask.CPUShares == 0:
	case on.unified: // OCI runtimes convert shares one way or another; Resize converts them our way
		unified["cpu.weight"] = strconv.FormatUint(weight(shares(ask)), 10)
	default:
		cpu.Shares = &ask.CPUShares
	}
	if ask.CPUQuota > 0 {
		cpu.Quota = &ask.CPUQuota
		if ask.CPUPeriod > 0 {
			cpu.Period = &ask.CPUPeriod
		}
	}
	if *cpu != (specs.LinuxCPU{}) {
		res.CPU = cpu
	}
	if ask.MemoryLimit > 0 {
		res.Memory = &specs.LinuxMemory{Limit: &ask.MemoryLimit}
		if on.unified || on.memsw {
			res.Memory.Swap = &ask.MemoryLimit // memory and swap together: no swap
		}
	}
	if on.oomGroup {
		// As Kubernetes does: what is left of a container after one of its processes was killed is seldom of use.
		unified["memory.oom.group"] = "1"
	}
	if len(unified) > 0 {
		res.Unified = unified
	}
	if ask.PidsLimit > 0 {
		res.Pids = &specs.LinuxPids{Limit: &ask.PidsLimit}
	}
	return res
}

// hostDevices lists the device nodes of this machine, for privileged containers.
func hostDevices() ([]specs.LinuxDevice, error) {
	var devices []specs.LinuxDevice
	skip := []string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/console", "/dev/ptmx"}
	err := filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone meanwhile
		case err != nil:
			return err
		case slices.Contains(skip, path) && entry.IsDir():
			return filepath.SkipDir
		case slices.Contains(skip, path) || entry.Type()&os.ModeDevice == 0:
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return nil
		}
		kind := "b"
		if st.Mode&unix.S_IFMT == unix.S_IFCHR {
			kind = "c"
		}
		mode := os.FileMode(st.Mode & 0o777)
		devices = append(devices, specs.LinuxDevice{
			Path: path, Type: kind, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
			Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev))),
		})
		return nil
	})
	return devices, err
}
