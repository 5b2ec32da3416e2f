// Package volume makes a pod's volumes on the node: directories that are
// mounted into its containers.
package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
	Tokens  Tokens // nil: there are none
	Facts   environment.Facts
}

// Prepare makes the volumes of a pod below dir, one directory for each, and is
// idempotent: what an emptyDir holds stays. It returns when Refresh is due
// though no object has changed, zero for never. Errors are of type *Error,
// joined, one for each volume that failed.
func Prepare(dir string, pod *corev1.Pod, from Sources) (time.Time, error) {
	return each(pod, func(v *corev1.Volume) (time.Time, error) {
		switch path := filepath.Join(dir, v.Name); {
		case v.HostPath != nil:
			return time.Time{}, hostPath(v.HostPath)
		case v.EmptyDir != nil:
			return time.Time{}, emptyDir(path, v.EmptyDir, pod, from.Facts)
		case ClaimName(pod, v) != "":
			return time.Time{}, claim(v, pod, from.Claims)
		case v.Image != nil:
			return time.Time{}, nil // MountImage, when it is there
		default:
			return project(path, v, pod, from)
		}
	})
}

// Refresh brings those volumes up to date that Prepare has made of objects of
// the API, and returns what Prepare does.
func Refresh(dir string, pod *corev1.Pod, from Sources) (time.Time, error) {
	return each(pod, func(v *corev1.Volume) (time.Time, error) {
		if !Projected(v) {
			return time.Time{}, nil
		}
		return project(filepath.Join(dir, v.Name), v, pod, from)
	})
}

// Check returns the errors that Prepare would find in what a pod's volumes refer
// to, and makes nothing. Paths of the node, claims and tokens are not looked at.
func Check(pod *corev1.Pod, from Sources) error {
	from.Tokens = noTokens{}
	_, err := each(pod, func(v *corev1.Volume) (time.Time, error) {
		if v.HostPath != nil || v.EmptyDir != nil || v.Image != nil || ClaimName(pod, v) != "" {
			return time.Time{}, nil
		}
		return time.Time{}, newProjector("", pod, from).volume(v)
	})
	return err
}

// each does something with each volume of a pod, and returns the earliest of the
// times that are not zero.
func each(pod *corev1.Pod, do func(*corev1.Volume) (time.Time, error)) (due time.Time, err error) {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		at, err := do(v)
		if err != nil {
			errs = append(errs, &Error{v.Name, err})
		}
		due = earlier(due, at)
	}
	return due, errors.Join(errs...)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Projected returns whether the volume is made of objects of the API, whose
// changes it follows.
func Projected(v *corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// Locate returns where the volumes of a pod are that Prepare has made below dir.
func Locate(dir string, pod *corev1.Pod, claims Claims) (map[string]Directory, error) {
	places := map[string]Directory{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		place := Directory{Path: filepath.Join(dir, v.Name), ReadOnly: Projected(v) || v.Image != nil, NoExec: v.Image != nil}
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

// Remove takes a pod's directory away with everything mounted below it.
func Remove(dir string) error {
	if err := Unmount(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Unmount takes away every mount at or below a path.
func Unmount(path string) error {
	mounts, err := mountsBelow(path)
	if err != nil {
		return err
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unix.Unmount(mounts[i], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", mounts[i], err)
		}
	}
	return nil
}
