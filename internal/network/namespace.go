package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsfsMagic is the file system type of namespace files (statfs(2), NSFS_MAGIC).
const nsfsMagic = 0x6e736673

// isNamespace reports whether a live namespace is mounted at path.
func isNamespace(path string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && stat.Type == nsfsMagic
}

// makeNamespace makes a network namespace and mounts it at path.
func makeNamespace(path string) error {
	made := make(chan error)
	go func() {
		// The thread is in the new namespace and so of no use to others: it ends
		// with this goroutine, which never unlocks it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("unshare: %w", err)
			return
		}
		made <- bindNamespace(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path)
	}()
	return <-made
}

// bindNamespace mounts the namespace file source at path.
func bindNamespace(source, path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	_ = file.Close()
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	return nil
}

// removeNamespace takes away what makeNamespace and bindNamespace left.
func removeNamespace(path string) error {
	for isNamespace(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
