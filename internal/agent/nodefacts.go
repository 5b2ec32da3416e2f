package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// nodeFacts is what the kernel and the system tell of this node.
type nodeFacts struct {
	cpus   int
	memory int64 // bytes
	disk   int64 // bytes, of the file system that holds the data directory
	info   corev1.NodeSystemInfo
}

func readNodeFacts(dataDir string) (*nodeFacts, error) {
	f := &nodeFacts{cpus: runtime.NumCPU()}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	if f.memory, err = parseMemTotal(meminfo); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dataDir, &fs); err != nil {
		return nil, fmt.Errorf("size of the file system of %s: %w", dataDir, err)
	}
	f.disk = int64(fs.Blocks) * fs.Bsize
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, fmt.Errorf("kernel version: %w", err)
	}
	f.info = corev1.NodeSystemInfo{
		KernelVersion:   unix.ByteSliceToString(uname.Release[:]),
		MachineID:       firstLine("/etc/machine-id"),
		BootID:          firstLine("/proc/sys/kernel/random/boot_id"),
		SystemUUID:      strings.ToLower(firstLine("/sys/class/dmi/id/product_uuid")),
		OSImage:         osImage("/etc/os-release"),
		OperatingSystem: runtime.GOOS,
		Architecture:    runtime.GOARCH,
	}
	if f.info.SystemUUID == "" {
		f.info.SystemUUID = f.info.MachineID
	}
	return f, nil
}

// parseMemTotal reads the memory of the machine, in bytes, from proc(5) meminfo.
func parseMemTotal(meminfo []byte) (int64, error) {
	for line := range bytes.Lines(meminfo) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemTotal:")); ok {
			fields := bytes.Fields(rest)
			if len(fields) == 0 {
				break
			}
			kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
			if err != nil || kib < 0 || kib > 1<<50 {
				return 0, fmt.Errorf("MemTotal in /proc/meminfo: %.40q", rest)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("no MemTotal in /proc/meminfo")
}

// firstLine is the first line of a file, "" if it cannot be read: none of the
// files that it is asked for is on every system.
func firstLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return strings.TrimSpace(line)
}

func osImage(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "Linux"
	}
	for line := range strings.Lines(string(content)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return "Linux"
}

// capacity is what the node has.
func (a *Agent) capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(a.node.cpus), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(a.node.memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(a.node.disk, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(int64(a.cfg.MaxPods), resource.DecimalSI),
	}
}

// allocatable is what of it is for pods: all but what is reserved.
func (a *Agent) allocatable() corev1.ResourceList {
	rest := a.capacity()
	for name, reserved := range a.cfg.Policy.SystemReserved {
		left := rest[name]
		if left.Sub(reserved); left.Sign() < 0 {
			left.Set(0)
		}
		rest[name] = left
	}
	return rest
}
