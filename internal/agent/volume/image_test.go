package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An image of one layer and of several is there to be read, not to be written or run,
// once, and is taken away with its pod.
func TestMountImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	top, bottom := t.TempDir(), t.TempDir()
	for path, content := range map[string]string{filepath.Join(top, "both"): "top", filepath.Join(bottom, "both"): "bottom", filepath.Join(bottom, "below"): "bottom"} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	pod := filepath.Join(t.TempDir(), "pod")
	t.Cleanup(func() { _ = Remove(pod) })
	dir := filepath.Join(pod, "volumes")
	for range 2 { // again is the same
		if err := MountImage(dir, "one", []string{bottom}); err != nil {
			t.Fatal(err)
		}
		if err := MountImage(dir, "two", []string{top, bottom}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{"one/both": "bottom", "two/both": "top", "two/below": "bottom"} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != want {
			t.Errorf("%s has %q: %v", path, got, err)
		}
	}
	for _, name := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(dir, name, "new"), nil, 0o600); err == nil || !strings.Contains(err.Error(), "read-only file system") {
			t.Errorf("%s can be written: %v", name, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			if n++; !strings.Contains(line, "noexec") || !strings.Contains(line, "ro,") {
				t.Error(line)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d mounts", n)
	}
	if err := MountImage(dir, "none", nil); err == nil || !strings.Contains(err.Error(), `volume "none" : the image has no layers`) {
		t.Error(err)
	}
	if err := Remove(pod); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bottom, "below")); err != nil {
		t.Error("the image is gone with the pod: ", err)
	}
}
