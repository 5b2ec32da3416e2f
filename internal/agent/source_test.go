package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent/environment"
)

// Variables come from files of a pod's volumes, and from nothing else that a container
// may have put there.
func TestFileOfVolume(t *testing.T) {
	dir := t.TempDir()
	v := filepath.Join(dir, "v")
	for _, err := range []error{
		os.Mkdir(v, 0o755), os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600), os.WriteFile(filepath.Join(v, "env"), []byte("A='b'"), 0o600),
		os.WriteFile(filepath.Join(v, "large"), make([]byte, environment.MaxFile+1), 0o600), os.Symlink("../secret", filepath.Join(v, "out")), unix.Mkfifo(filepath.Join(v, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := apiSource{volumes: dir}
	if got, err := s.File("v", "env"); err != nil || string(got) != "A='b'" {
		t.Errorf("%q, %v", got, err)
	}
	for path, want := range map[string]string{"none": "not found", "large": "larger than 65536 bytes", "out": "escapes", "../secret": "escapes", "pipe": "is no file", ".": "is no file"} {
		if got, err := s.File("v", path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := s.File("v", "none"); !errors.Is(err, environment.ErrNotFound) {
		t.Error(err)
	}
	if _, err := (apiSource{}).File("v", "env"); err == nil {
		t.Error("a pod without files has one")
	}
}
