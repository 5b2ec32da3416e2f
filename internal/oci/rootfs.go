package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountRootfs mounts the overlay of the layers (topmost first) and a writable
// layer of the container's own, which is in dir, on rootfs.
//
// The layers are passed as open directories (/proc/self/fd/N), because the
// kernel takes no more than a page of options and their paths may be long, and
// because a path may hold the commas and colons that separate options.
func mountRootfs(dir, rootfs string, layers []string) (err error) {
	if len(layers) == 0 {
		return errors.New("the image has no layers")
	}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{rootfs, upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := copyMode(layers[0], upper); err != nil {
		return err
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	handle := func(path string) (string, error) {
		f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return "", err
		}
		open = append(open, f)
		return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())), nil
	}
	lower := make([]string, len(layers))
	for i, layer := range layers {
		if lower[i], err = handle(layer); err != nil {
			return fmt.Errorf("image layer: %w", err)
		}
	}
	if upper, err = handle(upper); err != nil {
		return err
	}
	if work, err = handle(work); err != nil {
		return err
	}
	options := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + upper + ",workdir=" + work
	// What a container writes need not survive the machine: volatile spares every sync.
	err = unix.Mount("overlay", rootfs, "overlay", 0, options+",volatile")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("overlay", rootfs, "overlay", 0, options) // Linux before 5.10
	}
	if err != nil {
		return fmt.Errorf("mount overlay of %d layers: %w", len(layers), err)
	}
	// Its unmounting must not reach other mount namespaces.
	if err := unix.Mount("", rootfs, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("mount overlay: %w", err), unmountAll(rootfs))
	}
	return nil
}

// copyMode gives the root directory of the writable layer the owner and
// permissions of the image's.
func copyMode(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return fmt.Errorf("image layer %s: %w", from, err)
	}
	return errors.Join(os.Chown(to, int(st.Uid), int(st.Gid)), unix.Chmod(to, st.Mode&0o7777))
}

// unmountRoot undoes mountRootfs and withUsers, wherever they got to. A container whose
// mount namespace was made meanwhile keeps its view.
func (r *Runtime) unmountRoot(id string) error {
	dir := r.containerDir(id)
	return errors.Join(unmountAll(filepath.Join(dir, "rootfs")), unmountAll(filepath.Join(dir, mappedDir)), unmountAll(r.openPlace(id)))
}

// unmountAll unmounts what is mounted at a path, as often as something is.
func unmountAll(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil: // and what was mounted below it
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}
