// Package volume makes a pod's volumes on the node: directories that are
// mounted into its containers.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/environment"
)

// Error is what keeps one volume from being there.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Sources is what a pod's volumes are made of.
type Sources struct {
	Objects environment.Source
	Claims  Claims // nil: there are none
	Facts   environment.Facts
}

// Prepare makes the volumes of a pod below dir, one directory for each, and is
// idempotent: what an emptyDir holds stays. Errors are of type *Error, joined,
// one for each volume that failed.
func Prepare(dir string, pod *corev1.Pod, from Sources) error {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if err := prepare(filepath.Join(dir, v.Name), v, pod, from); err != nil {
			errs = append(errs, &Error{v.Name, err})
		}
	}
	return errors.Join(errs...)
}

// Check returns the errors that Prepare would find in what a pod's volumes refer
// to, and makes nothing. Paths of the node are not looked at.
func Check(pod *corev1.Pod, from Sources) error {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.HostPath != nil || v.EmptyDir != nil || ClaimName(pod, v) != "" {
			continue
		}
		p := projector{pod: pod, source: from.Objects, facts: from.Facts, files: map[string]file{}}
		if err := p.volume(v); err != nil {
			errs = append(errs, &Error{v.Name, err})
		}
	}
	return errors.Join(errs...)
}

// Locate returns where the volumes of a pod are that Prepare has made below dir.
func Locate(dir string, pod *corev1.Pod, claims Claims) (map[string]Directory, error) {
	places := map[string]Directory{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		place := Directory{Path: filepath.Join(dir, v.Name)}
		if v.HostPath != nil {
			place.Path = v.HostPath.Path
		}
		if name := ClaimName(pod, v); name != "" {
			var err error
			if place, err = claimed(v, name, claims); err != nil {
				return nil, &Error{v.Name, err}
			}
		}
		places[v.Name] = place
	}
	return places, nil
}

func prepare(dir string, v *corev1.Volume, pod *corev1.Pod, from Sources) error {
	switch {
	case v.HostPath != nil:
		return hostPath(v.HostPath)
	case v.EmptyDir != nil:
		return emptyDir(dir, v.EmptyDir, pod)
	case ClaimName(pod, v) != "":
		_, err := claimed(v, ClaimName(pod, v), from.Claims)
		return err
	}
	p := projector{pod: pod, source: from.Objects, facts: from.Facts, files: map[string]file{}}
	if err := p.volume(v); err != nil {
		return err
	}
	return write(dir, p.files, fsGroup(pod))
}

func fsGroup(pod *corev1.Pod) int {
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return int(*sc.FSGroup)
	}
	return -1
}

func emptyDir(dir string, source *corev1.EmptyDirVolumeSource, pod *corev1.Pod) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if source.Medium == corev1.StorageMediumMemory && !mountPoint(dir) {
		options := "mode=0777"
		if source.SizeLimit != nil && source.SizeLimit.Value() > 0 {
			options += fmt.Sprintf(",size=%d", source.SizeLimit.Value())
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
	}
	mode := fs.FileMode(0o777)
	if group := fsGroup(pod); group >= 0 {
		if err := os.Chown(dir, -1, group); err != nil {
			return err
		}
		mode |= fs.ModeSetgid
	}
	return os.Chmod(dir, mode)
}

func mountPoint(dir string) bool {
	var here, above unix.Stat_t
	return unix.Lstat(dir, &here) == nil && unix.Lstat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}

// hostPath checks a path of the node as its type says, and makes it for the
// types that ask for it.
func hostPath(source *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if source.Type != nil {
		kind = *source.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(source.Path, 0o755); err != nil {
			return err
		}
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(source.Path, os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	info, err := os.Stat(source.Path)
	if kind == corev1.HostPathUnset && errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(source.Path, 0o755)
	}
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	mode := info.Mode()
	fits := map[corev1.HostPathType]bool{
		corev1.HostPathUnset:             true,
		corev1.HostPathDirectoryOrCreate: mode.IsDir(),
		corev1.HostPathDirectory:         mode.IsDir(),
		corev1.HostPathFileOrCreate:      mode.IsRegular(),
		corev1.HostPathFile:              mode.IsRegular(),
		corev1.HostPathSocket:            mode&fs.ModeSocket != 0,
		corev1.HostPathCharDev:           mode&fs.ModeCharDevice != 0,
		corev1.HostPathBlockDev:          mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0,
	}
	if !fits[kind] {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", source.Path, kind)
	}
	return nil
}

// SubPath returns the path of a file or directory inside a volume, which it
// makes as a directory if nothing is there. Symbolic links are followed inside
// the volume only.
func SubPath(volume, sub string) (string, error) {
	path, err := securejoin.SecureJoin(volume, sub)
	if err != nil {
		return "", fmt.Errorf("subPath %q: %w", sub, err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(path, 0o777); err != nil {
			return "", fmt.Errorf("subPath %q: %w", sub, err)
		}
	}
	return path, nil
}

// Remove takes a pod's directory away with everything mounted below it.
func Remove(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unix.Unmount(mounts[i], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", mounts[i], err)
		}
	}
	return os.RemoveAll(dir)
}
