package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"windlass.dev/windlass/internal/agent"
)

// reopen opens a store again as a new process would: the library keeps one open
// store for each directory, which has to be closed for that.
func reopen(t *testing.T, s *Store) (*Store, error) {
	t.Helper()
	_ = s.Close()
	return New(Config{DataDir: s.dataDir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

// Records of layers or images that the disk has damaged are mended from the copy,
// and where that is damaged too, the error says what to do.
func TestDamagedRecords(t *testing.T) {
	for _, name := range recordFiles {
		for what, damage := range map[string]func(path string) error{
			"cut off": func(path string) error { return os.Truncate(path, 40) },
			"emptied": func(path string) error { return os.Truncate(path, 0) },
			"zeros":   func(path string) error { return os.WriteFile(path, make([]byte, 600), 0o600) },
			"no list": func(path string) error { return os.WriteFile(path, []byte(`{"id":"x"}`), 0o600) },
			"no ids":  func(path string) error { return os.WriteFile(path, []byte(`[{}]`), 0o600) },
			"gone":    os.Remove,
		} {
			t.Run(filepath.Base(name)+" "+what, func(t *testing.T) {
				s := newStore(t)
				load(t, s, saved(t, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", "one"))}))
				before := find(t, s, "app:v1")
				path := filepath.Join(imagesDir(s.dataDir), name)
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				mended, err := reopen(t, s)
				if err != nil {
					t.Fatal(err)
				}
				after := find(t, mended, "app:v1")
				if data, err := os.ReadFile(filepath.Join(after.Layers[0], "app")); err != nil || string(data) != "one" || after.ID != before.ID {
					t.Errorf("%+v, %q, %v", after, data, err)
				}
				load(t, mended, saved(t, map[string]v1.Image{"app:v2": pack(t, "2", layer(t, "app", "two"))}))
				if what == "gone" {
					return
				}
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				if err := damage(keptCopy(imagesDir(s.dataDir), name)); err != nil {
					t.Fatal(err)
				}
				if _, err := reopen(t, mended); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "windlass reset") {
					t.Errorf("with its copy damaged: %v", err)
				}
			})
		}
	}
}

// An image that is not whole is deleted when the store is opened; others stay,
// and it can be loaded again.
func TestDamagedImage(t *testing.T) {
	archive := saved(t, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", "one"))})
	for what, damage := range map[string]func(s *Store, img *agent.Image) error{
		"a layer's files are gone": func(_ *Store, img *agent.Image) error { return os.RemoveAll(filepath.Dir(img.Layers[0])) },
		"its configuration is gone": func(s *Store, img *agent.Image) error {
			return os.RemoveAll(filepath.Join(imagesDir(s.dataDir), "overlay-images", strings.TrimPrefix(img.ID, "sha256:")))
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStore(t)
			load(t, s, saved(t, map[string]v1.Image{"other:v1": pack(t, "2", layer(t, "app", "two"))}))
			load(t, s, archive)
			if err := damage(s, find(t, s, "app:v1")); err != nil {
				t.Fatal(err)
			}
			mended, err := reopen(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := mended.Find(t.Context(), "app:v1"); !errors.Is(err, agent.ErrImageNotFound) {
				t.Errorf("a damaged image is there: %v", err)
			}
			find(t, mended, "other:v1")
			load(t, mended, archive)
			img := find(t, mended, "app:v1")
			if data, err := os.ReadFile(filepath.Join(img.Layers[0], "app")); err != nil || string(data) != "one" {
				t.Errorf("loaded again: %q, %v", data, err)
			}
		})
	}
}

const crashVariable = "WINDLASS_TEST_CRASH"

// crashing is what the process does that TestCrash kills: it loads, removes and
// prunes images without end, in a directory and from an archive.
func crashing(dir string) error {
	s, err := New(Config{DataDir: dir})
	if err != nil {
		return err
	}
	for {
		archive, err := os.Open(filepath.Join(dir, "archive.tar"))
		if err != nil {
			return err
		}
		names, err := s.Load(context.Background(), archive)
		if err := errors.Join(err, archive.Close()); err != nil {
			return err
		}
		fmt.Println("loaded") // TestCrash kills from the first of these on
		if err := s.Remove(context.Background(), names[0], false); err != nil {
			return err
		}
		if _, err := s.Prune(context.Background(), true); err != nil {
			return err
		}
	}
}

// Wherever a process that loads, removes and prunes is killed, the next one finds
// images that are whole, or none, and works.
func TestCrash(t *testing.T) {
	s := newStore(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := func(content string) []string { return []string{"a", content, "b/c", noise(20000)} }
	archive := saved(t, map[string]v1.Image{
		"app:v1": pack(t, "1", layer(t, "base", noise(30000)), layer(t, files("one")...)),
		"app:v2": pack(t, "2", layer(t, "base", noise(30000)), layer(t, files("two")...)),
	})
	write(t, filepath.Join(dir, "archive.tar"), string(archive))
	random := rand.New(rand.NewPCG(1, 2))
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashVariable+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("loaded\n"))); err != nil {
			t.Fatalf("round %d: the process ended: %v, %s", round, err, complaint.String())
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) // any moment of its work
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		checkAfterCrash(t, dir, archive, round)
	}
}

func checkAfterCrash(t *testing.T, dir string, archive []byte, round int) {
	t.Helper()
	var said bytes.Buffer
	s, err := New(Config{DataDir: dir, Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	defer s.Close()
	if strings.Contains(said.String(), "damaged") {
		t.Errorf("round %d: %s", round, said.String())
	}
	list, err := s.List(t.Context())
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	for _, img := range list {
		if data, err := os.ReadFile(filepath.Join(img.Layers[0], "a")); err != nil || string(data) != map[string]string{"VERSION=1": "one", "VERSION=2": "two"}[img.Env[0]] {
			t.Errorf("round %d: %v has %q, %v", round, img.Names, data, err)
		}
		if data, err := os.ReadFile(filepath.Join(img.Layers[0], "b/c")); err != nil || string(data) != noise(20000) {
			t.Errorf("round %d: %v is not whole: %d bytes, %v", round, img.Names, len(data), err)
		}
	}
	nothingTemporary(t, s)
	load(t, s, archive)
	if _, err := s.Prune(t.Context(), true); err != nil {
		t.Errorf("round %d: %v", round, err)
	}
	if left, err := s.storage.Layers(); err != nil || len(left) != 0 {
		t.Errorf("round %d: %d layers are left, %v", round, len(left), err)
	}
	dirs, err := filepath.Glob(filepath.Join(dir, "images", "overlay", "*", "diff"))
	if err != nil || len(dirs) != 0 {
		t.Errorf("round %d: files of layers are left: %v, %v", round, dirs, err)
	}
}

func FuzzCheckRecords(f *testing.F) {
	f.Add([]byte(`[{"id":"a"}]`))
	f.Add([]byte(`[{"id":""}]`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := checkRecords(data); err == nil && len(bytes.TrimSpace(data)) == 0 {
			t.Error("nothing was taken for records")
		}
	})
}
