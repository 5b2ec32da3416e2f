package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	began := time.Now()
	s, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("opened in %v", time.Since(began))
	t.Cleanup(s.Close)
	return s
}

func TestStateOutlivesTheStore(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	if _, err := first.client.Put(t.Context(), "/a", "1"); err != nil {
		t.Fatal(err)
	}
	first.Close()
	got, err := open(t, dir).client.KV.Get(t.Context(), "/a")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "1" {
		t.Fatalf("after a restart /a is %v, want 1", got.Kvs)
	}
}

func TestOpenRefusesADirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Fatalf("second Open returned %v, want ErrInUse", err)
	}
}

func TestOpenSaysThatADirectoryIsDamaged(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	if _, err := first.client.Put(t.Context(), "/a", "1"); err != nil {
		t.Fatal(err)
	}
	first.Close()
	for _, damaged := range []string{"member/snap/db", "member/wal/0000000000000000-0000000000000000.wal"} {
		path := filepath.Join(dir, damaged)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Config{Dir: dir}); err == nil {
			t.Errorf("Open with a damaged %s succeeded", damaged)
		} else {
			t.Logf("%s: %v", damaged, err)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatchProgressOnRequest(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	watch := s.client.Watch(ctx, "/a", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	written, err := s.client.Put(ctx, "/b", "1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.client.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	if notice := <-watch; notice.Header.Revision < written.Header.Revision {
		t.Fatalf("progress notice at revision %d, want at least %d", notice.Header.Revision, written.Header.Revision)
	}
}
