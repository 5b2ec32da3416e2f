package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MountImage mounts the layers of an image (topmost first) in the place of a volume
// below dir, for reading only, unless something is mounted there. Remove takes it away.
// Errors are of type *Error.
func MountImage(dir, name string, layers []string) error {
	if err := mountLayers(filepath.Join(dir, name), layers); err != nil {
		return &Error{name, err}
	}
	return nil
}

// imageFlags are those of a volume that is an image, as Kubernetes documents them.
const imageFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

func mountLayers(at string, layers []string) error {
	if len(layers) == 0 {
		return errors.New("the image has no layers")
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if mounts, err := mountsBelow(at); err != nil || len(mounts) > 0 {
		return err
	}
	if len(layers) == 1 { // which is no overlay
		if err := unix.Mount(layers[0], at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount the image: %w", err)
		}
		if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|imageFlags, ""); err != nil {
			return errors.Join(fmt.Errorf("mount the image for reading only: %w", err), Unmount(at))
		}
		return private(at)
	}
	// Open directories are short, however many layers there are, and hold no commas.
	lower := make([]string, len(layers))
	for i, layer := range layers {
		f, err := os.OpenFile(layer, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return fmt.Errorf("image layer: %w", err)
		}
		defer f.Close()
		lower[i] = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	}
	if err := unix.Mount("overlay", at, "overlay", imageFlags, "lowerdir="+strings.Join(lower, ":")); err != nil {
		return fmt.Errorf("mount overlay of %d layers: %w", len(layers), err)
	}
	return private(at)
}

// private keeps a mount's unmounting from other mount namespaces.
func private(at string) error {
	if err := unix.Mount("", at, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(err, Unmount(at))
	}
	return nil
}
