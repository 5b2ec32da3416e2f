package localvolume

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestQuota: on a file system with project quotas a volume takes its capacity and no
// more, its neighbour is not touched by that, and it takes more once it has grown.
func TestQuota(t *testing.T) {
	dir := quotaFileSystem(t)
	d := Below(filepath.Join(dir, "volumes"))
	for _, name := range []string{"pvc-1", "pvc-2"} {
		if capacity, err := d.Make(name, 1<<20); err != nil || capacity != "enforced" {
			t.Fatalf("%s: %q, %v", name, capacity, err)
		}
	}
	fill := func(name string, size int) (err error) {
		unprivileged(t, func() {
			err = os.WriteFile(filepath.Join(d.Path(name), "file"), bytes.Repeat([]byte("x"), size), 0o600)
		})
		return err
	}
	if err := fill("pvc-1", 2<<20); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("2 MiB into 1 MiB: %v", err)
	}
	if err := fill("pvc-2", 512<<10); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
	if err := d.Grow("pvc-1", 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := fill("pvc-1", 2<<20); err != nil {
		t.Errorf("2 MiB into 4 MiB: %v", err)
	}
}

// unprivileged calls do without CAP_SYS_RESOURCE, which containers do not have
// either: whoever has it may exceed quotas.
func unprivileged(t *testing.T, do func()) {
	t.Helper()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this function
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		err := unix.Capget(&header, &sets[0])
		if err == nil {
			sets[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
			err = unix.Capset(&header, &sets[0])
		}
		if err == nil {
			do()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// quotaFileSystem mounts one of its own, or skips the test.
func quotaFileSystem(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	if err := errors.Join(os.Mkdir(mount, 0o755), os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", image},
		{"mount", "-o", "loop,prjquota", image, mount},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no file system with project quotas can be had here: %s: %v: %s", command[0], err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return mount
}

// TestNoQuota: elsewhere the directory is made all the same, and the reason is told.
func TestNoQuota(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	capacity, err := Below(dir).Make("pvc-1", 1<<20)
	if err != nil || capacity != "not enforced: "+errNoQuota.Error() {
		t.Errorf("%q, %v", capacity, err)
	}
}
