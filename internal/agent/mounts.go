package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/environment"
	"windlass.dev/windlass/internal/agent/volume"
)

// mounts makes the files that every container has and says where they and the
// volumes belong.
func (a *Agent) mounts(ctx context.Context, pod *corev1.Pod, c *corev1.Container, attempt int, ip string, lookup func(string) (string, bool)) ([]Mount, error) {
	if a.cfg.NoFiles {
		return nil, nil
	}
	files, err := a.writePodFiles(pod, ip)
	if err != nil {
		return nil, &configError{fmt.Errorf("write the pod's files: %w", err)}
	}
	message, err := a.messageMount(pod, c, attempt)
	if err != nil {
		return nil, &configError{fmt.Errorf("make the file for the termination message: %w", err)}
	}
	memory, err := a.sharedMemory(pod)
	if err != nil {
		return nil, &configError{fmt.Errorf("make the pod's shared memory: %w", err)}
	}
	files = slices.Concat(files, message, memory)
	volumes, err := volume.Locate(a.volumesDir(pod), pod, a.claims(ctx, pod))
	if err != nil {
		return nil, &configError{err}
	}
	mounts, err := mountsOf(c, volumes, filepath.Join(a.podDir(pod.UID), "subpaths", c.Name), lookup)
	if err != nil {
		return nil, &configError{err}
	}
	return withFiles(mounts, files), nil
}

// mountsOf places volumes into a container. Those that show only a part of a
// volume show it from a place below dir.
func mountsOf(c *corev1.Container, volumes map[string]volume.Directory, dir string, lookup func(string) (string, bool)) ([]Mount, error) {
	var mounts []Mount
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		found, ok := volumes[m.Name]
		if !ok {
			return nil, fmt.Errorf("volume %q of mount %s is not in the pod", m.Name, m.MountPath)
		}
		source := found.Path
		sub, err := subPathOf(m, lookup)
		if err == nil && sub != "" {
			source = filepath.Join(dir, strconv.Itoa(i))
			err = volume.SubPath(found.Path, sub, source)
		}
		if err != nil {
			return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
		}
		mount := Mount{Source: source, Destination: m.MountPath, ReadOnly: m.ReadOnly || found.ReadOnly, NoExec: found.NoExec}
		if !filepath.IsAbs(mount.Destination) {
			mount.Destination = "/" + mount.Destination
		}
		if m.MountPropagation != nil {
			mount.Propagation = *m.MountPropagation
		}
		if mode := m.RecursiveReadOnly; mode != nil && m.ReadOnly {
			mount.Recursive = *mode
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

// subPathOf is the part of its volume that a mount shows, "" for all.
func subPathOf(m *corev1.VolumeMount, lookup func(string) (string, bool)) (string, error) {
	if m.SubPathExpr == "" {
		return m.SubPath, nil
	}
	var missing error
	sub := environment.Expand(m.SubPathExpr, func(name string) (string, bool) {
		value, ok := lookup(name)
		if !ok {
			missing = fmt.Errorf("missing value for %q", name)
		}
		return value, ok
	})
	return sub, missing
}

// withFiles adds the pod's own files. A mount of the container's at the place of
// one wins.
func withFiles(mounts, files []Mount) []Mount {
	taken := map[string]bool{}
	for _, m := range mounts {
		taken[filepath.Clean(m.Destination)] = true
	}
	for _, file := range files {
		if !taken[file.Destination] {
			mounts = append(mounts, file)
		}
	}
	return mounts
}
