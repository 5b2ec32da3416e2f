package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// isNamespace reports whether a live namespace is mounted at path.
func isNamespace(path string) bool {
	ns, err := openNamespace(path)
	if err != nil {
		return false
	}
	_ = ns.Close()
	return true
}

// openNamespace opens the namespace that is mounted at path. It fails with
// fs.ErrNotExist where none is, in this mount namespace.
func openNamespace(path string) (*os.File, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(ns.Fd()), &stat); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	if stat.Type != unix.NSFS_MAGIC {
		_ = ns.Close()
		return nil, fmt.Errorf("%s holds no namespace: %w", path, fs.ErrNotExist)
	}
	return ns, nil
}

// inNamespace calls do on a thread of its own that move has brought into another
// network namespace.
func inNamespace(move, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		if err = move(); err == nil {
			err = do()
		}
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		} // else the thread is of no use to others: it ends with this goroutine
		done <- err
	}()
	return <-done
}

// enter moves the calling thread into a network namespace.
func enter(ns *os.File) func() error {
	return func() error { return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) }
}

// makeNamespace makes a network namespace and mounts it at path.
func makeNamespace(path string) error {
	// A file that is there was the mount point of a namespace in another mount
	// namespace; removing it takes that away.
	if err := removeNamespace(path); err != nil {
		return err
	}
	return inNamespace(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		if err := setSysctls(podSysctls); err != nil {
			return err
		}
		return bindNamespace("/proc/thread-self/ns/net", path)
	})
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
