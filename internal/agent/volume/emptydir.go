package volume

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/environment"
)

// emptyDir makes an emptyDir that is not there yet.
func emptyDir(dir string, source *corev1.EmptyDirVolumeSource, pod *corev1.Pod, facts environment.Facts) error {
	switch source.Medium {
	case corev1.StorageMediumDefault:
		return diskDir(dir, fsGroup(pod))
	case corev1.StorageMediumMemory:
		return memoryDir(dir, fsGroup(pod), memorySize(source, pod, facts))
	}
	return fmt.Errorf("emptyDir medium %q is not supported on this node (supported: \"\" and Memory)", source.Medium)
}

// diskDir makes a directory that appears with its owner and mode.
func diskDir(dir string, group int) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	// No volume has a name with a dot.
	next := dir + ".new"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.MkdirAll(next, 0o777); err != nil {
		return err
	}
	mode := fs.FileMode(0o777)
	if group >= 0 {
		if err := os.Chown(next, -1, group); err != nil {
			return err
		}
		mode |= fs.ModeSetgid
	}
	if err := os.Chmod(next, mode); err != nil {
		return err
	}
	return os.Rename(next, dir)
}

// memoryDir makes a file system in memory; size in bytes, 0 for what the kernel
// gives, which is half of the machine's memory.
func memoryDir(dir string, group int, size int64) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if mountPoint(dir) {
		return nil
	}
	options := "mode=0777"
	if group >= 0 {
		options = fmt.Sprintf("mode=02777,gid=%d", group)
	}
	if size > 0 {
		options += fmt.Sprintf(",size=%d", size)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// memorySize is how large a volume in memory may be: its sizeLimit, but not more
// than its pod's containers may use together, nor than the node has for pods.
func memorySize(source *corev1.EmptyDirVolumeSource, pod *corev1.Pod, facts environment.Facts) int64 {
	size := facts.Allocatable.Memory().Value()
	least := func(limit int64) {
		if limit > 0 && (size == 0 || limit < size) {
			size = limit
		}
	}
	if source.SizeLimit != nil {
		least(source.SizeLimit.Value())
	}
	if pod.Spec.Resources != nil {
		least(pod.Spec.Resources.Limits.Memory().Value())
	}
	sum := int64(0)
	for i := range pod.Spec.Containers {
		limit := pod.Spec.Containers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			return size
		}
		sum += limit
	}
	for i := range pod.Spec.InitContainers {
		limit := pod.Spec.InitContainers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			return size
		}
		sum = max(sum, limit)
	}
	least(sum)
	return size
}

func mountPoint(dir string) bool {
	var here, above unix.Stat_t
	return unix.Lstat(dir, &here) == nil && unix.Lstat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}
