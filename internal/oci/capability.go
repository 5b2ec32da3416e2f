package oci

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"windlass.dev/windlass/internal/agent"
)

// capabilityNames are Linux' capabilities in the order of their numbers
// (capabilities(7), linux/capability.h).
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
	"SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
	"IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
	"SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
	"LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// defaultCapabilities are the fourteen that containerd and Docker leave to a container.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
	"SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// containerCapabilities decides what a container may do, as "CAP_…" in the order
// of their numbers. What this process does not hold itself (held is a bit set) it
// cannot give: denied lists what was asked for in vain.
func containerCapabilities(sec *agent.Security, held uint64) (given, denied []string) {
	want := map[string]bool{}
	set := func(names []string, value bool) {
		for _, name := range names {
			want[strings.TrimPrefix(strings.ToUpper(name), "CAP_")] = value
		}
	}
	set(defaultCapabilities, true)
	if sec.Privileged || containsAll(sec.AddCapabilities) {
		set(capabilityNames[:], true)
	}
	if containsAll(sec.DropCapabilities) && !sec.Privileged {
		clear(want)
	}
	set(sec.AddCapabilities, true)
	if !sec.Privileged {
		set(sec.DropCapabilities, false)
	}
	for number, name := range capabilityNames {
		switch {
		case !want[name]:
		case held&(1<<number) != 0:
			given = append(given, "CAP_"+name)
		case !sec.Privileged:
			denied = append(denied, "CAP_"+name)
		}
	}
	return given, denied
}

func containsAll(names []string) bool {
	return slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(s, "ALL") })
}

// heldCapabilities returns the capabilities of this process as a bit set.
func heldCapabilities() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapPrm:"); ok {
			return strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		}
	}
	return 0, fmt.Errorf("no CapPrm in /proc/self/status")
}

// capSysResource is the bit of CAP_SYS_RESOURCE, which lowering an OOM score takes.
const capSysResource = 1 << 24

// appArmorEnabled tells whether the kernel enforces AppArmor profiles.
func appArmorEnabled() bool {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(enabled), "Y")
}
