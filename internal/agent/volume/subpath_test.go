package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSubPath(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	base := t.TempDir()
	volume, target := filepath.Join(base, "volume"), filepath.Join(base, "pod", "mounts", "0")
	if err := os.MkdirAll(filepath.Join(volume, "dir"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Remove(base) })
	for link, to := range map[string]string{"out": "/etc", "up": "../..", "in": "dir", "inside/loop": "loop"} {
		path := filepath.Join(volume, link)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.Symlink(to, path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(volume, "dir", "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	for sub, want := range map[string]string{
		"/etc": "must not be an absolute path", "../x": "must stay in the volume", "a/../../x": "must stay in the volume",
		"out": "leads out of the volume", "out/passwd": "leads out of the volume", "up/x": "leads out of the volume", "up": "leads out of the volume",
		"inside/loop": "too many levels of symbolic links", "dir/file/x": "not a directory",
	} {
		if err := SubPath(volume, sub, target); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), sub) {
			t.Errorf("SubPath(%q): %v, want %q", sub, err, want)
		}
	}
	if mounts, err := mountsBelow(base); err != nil || len(mounts) > 0 {
		t.Fatalf("after refusals: %q, %v", mounts, err)
	}
	// One after the other at the same place: a file, a link inside, directories that it makes.
	for _, sub := range []string{"dir/file", "in/file", "in", "new/deep", "new/deep"} {
		err := SubPath(volume, sub, target)
		if errors.Is(err, unix.EPERM) {
			t.Skipf("mounting is not allowed here: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if mounts, err := mountsBelow(base); err != nil || len(mounts) != 1 || mounts[0] != target {
			t.Errorf("%s: mounts %q, %v", sub, mounts, err)
		}
		wanted, err := os.Stat(filepath.Join(volume, sub))
		got, err2 := os.Stat(target)
		if err != nil || err2 != nil || !os.SameFile(wanted, got) {
			t.Errorf("%s: %v, %v", sub, err, err2)
		}
	}
	for _, made := range []string{"new", "new/deep"} {
		if info, err := os.Stat(filepath.Join(volume, made)); err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("%s: %v, %v: not as open as the volume", made, info.Mode(), err)
		}
	}
	if err := Remove(filepath.Join(base, "pod")); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(volume, "dir", "file")); err != nil || string(content) != "content" {
		t.Errorf("the volume after Remove of the pod: %q, %v", content, err)
	}
}
