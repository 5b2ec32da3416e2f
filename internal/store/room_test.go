package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A store goes on writing when others have filled its disk.
func TestWritesGoOnWhenTheDiskIsFull(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("disk", disk, "tmpfs", 0, "size=128m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(disk, "etcd")
	s := open(t, dir)
	awaitRoom(t, databasePath(dir))
	fill(t, filepath.Join(disk, "fill"))

	// Fewer than take another segment of the log, and as many as take more than the
	// database had.
	value := string(bytes.Repeat([]byte("x"), 4096))
	for i := range 1200 {
		if _, err := s.client.Put(t.Context(), fmt.Sprint("/", i), value); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close() // writes what is not in the database yet
	select {
	case err := <-s.Failed():
		t.Fatal(err)
	default:
	}
	if err := os.Remove(filepath.Join(disk, "fill")); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, dir).client.KV.Get(t.Context(), "/1199")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("the last one written is %v, %v", got, err)
	}
}

func awaitRoom(t *testing.T, path string) {
	t.Helper()
	var stat unix.Stat_t
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err := unix.Stat(path, &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Blocks*512 >= stat.Size+roomBytes {
			return
		}
	}
	t.Fatalf("a database of %d bytes has %d of the disk", stat.Size, stat.Blocks*512)
}

// fill leaves nothing of the disk that path is on.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.Copy(file, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
