package localvolume

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestDirectories: making a directory again keeps its data; removing it takes all
// of it; only an empty one is abandoned; a deletion that was cut short is gone on with.
func TestDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes")
	d := Below(dir)
	for range 2 {
		if capacity, err := d.Make("pvc-1", 1<<20); err != nil || capacity != "enforced" && !strings.HasPrefix(capacity, "not enforced: ") {
			t.Fatalf("%q, %v", capacity, err)
		}
		write(t, filepath.Join(d.Path("pvc-1"), "sub", "file"))
	}
	info, err := os.Stat(d.Path("pvc-1"))
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("%v, %v: want a directory that any user may write to", info.Mode(), err)
	}
	if err := d.Grow("pvc-1", 2<<20); err != nil {
		t.Error(err)
	}
	if err := d.Grow("pvc-none", 1); err == nil {
		t.Error("a directory that is not there has grown")
	}
	if err := d.Abandon("pvc-1"); err == nil || !exists(filepath.Join(d.Path("pvc-1"), "sub", "file")) {
		t.Error("a directory with data was abandoned")
	}
	write(t, filepath.Join(dir, "pvc-0"+deleting, "file"))
	if names, err := d.Sweep(); err != nil || !slices.Equal(names, []string{"pvc-1"}) || exists(filepath.Join(dir, "pvc-0"+deleting)) {
		t.Errorf("swept: %v, %v", names, err)
	}
	for range 2 {
		if err := d.Remove("pvc-1"); err != nil || exists(d.Path("pvc-1")) || exists(d.Path("pvc-1")+deleting) {
			t.Errorf("removed: %v", err)
		}
	}
	if _, err := d.Make("pvc-2", 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Abandon("pvc-2"); err != nil || exists(d.Path("pvc-2")) {
			t.Errorf("abandoned: %v", err)
		}
	}
}
