package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SubPath mounts the file or directory sub of a volume at target, a path of the
// pod's own, and makes it as a directory if nothing is there. What the mount
// shows was looked up without leaving the volume, so a symbolic link that a
// container puts in the way leads nowhere. Remove of a directory above target
// unmounts it.
func SubPath(volume, sub, target string) error {
	if err := bindInside(volume, sub, target); err != nil {
		return fmt.Errorf("subPath %q: %w", sub, err)
	}
	return nil
}

func bindInside(volume, sub, target string) error {
	switch {
	case filepath.IsAbs(sub):
		return errors.New("must not be an absolute path")
	case !filepath.IsLocal(sub):
		return errors.New("must stay in the volume")
	}
	root, err := os.OpenRoot(volume)
	if err != nil {
		return err
	}
	defer root.Close()
	found, err := openInside(volume, sub)
	if errors.Is(err, fs.ErrNotExist) {
		if err = mkdirInside(root, sub); err == nil {
			found, err = openInside(volume, sub)
		}
	}
	if err != nil {
		return err
	}
	defer found.Close()
	return bind(found, target)
}

// openInside opens a path without leaving the volume, by no other right than to
// mount it.
func openInside(volume, sub string) (*os.File, error) {
	root, err := os.OpenFile(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), sub, how)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			continue // something was renamed meanwhile
		case errors.Is(err, unix.EXDEV):
			return nil, errors.New("leads out of the volume")
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: sub, Err: err}
		}
		return os.NewFile(uintptr(fd), sub), nil
	}
}

// mkdirInside makes a directory and those above it, each as open as the volume.
func mkdirInside(root *os.Root, sub string) error {
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetgid)
	path := ""
	for part := range strings.SplitSeq(filepath.Clean(sub), "/") {
		path = filepath.Join(path, part)
		switch err := root.Mkdir(path, mode.Perm()); {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return err
		}
		if err := root.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}

// bind mounts an open file or directory at target, unless it is there already.
func bind(found *os.File, target string) error {
	source := fmt.Sprintf("/proc/self/fd/%d", found.Fd())
	wanted, err := os.Stat(source)
	if err != nil {
		return err
	}
	if there, err := os.Stat(target); err == nil && os.SameFile(there, wanted) {
		return nil
	}
	if err := Unmount(target); err != nil { // another file, or one that has been replaced
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	if wanted.IsDir() {
		err = os.Mkdir(target, 0o700)
	} else {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("mount at %s: %w", target, err), os.Remove(target))
	}
	return nil
}

func groupOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}
