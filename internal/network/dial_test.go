package network

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// TestDial: a connection is made inside the pod, to its loopback interface alone,
// and leaves no thread, goroutine or descriptor behind.
func TestDial(t *testing.T) {
	n := newNetwork(t, t.TempDir())
	a := setup(t, n, "pod-a")
	setup(t, n, "pod-b")
	listen(t, a)
	eventually(t, func() error { return has(t, n, "pod-a", agent.SocketListen) })

	exchange := func() {
		t.Helper()
		conn, err := n.Dial(t.Context(), "pod-a", 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if address := conn.RemoteAddr().String(); address != "127.0.0.1:8080" && address != "[::1]:8080" {
			t.Errorf("connected to %s", address)
		}
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(conn); err != nil || string(answer) != "hello" {
			t.Fatalf("got %q, %v", answer, err)
		}
	}
	exchange()
	before := runtime.NumGoroutine()
	threads, files := count(t, "/proc/self/task"), count(t, "/proc/self/fd")
	for range 50 {
		exchange()
		if _, err := n.Dial(t.Context(), "pod-b", 8080); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("a port at which nobody listens: %v", err)
		}
	}
	eventually(t, func() error {
		if now := runtime.NumGoroutine(); now > before {
			return errors.New("goroutines are left")
		}
		if now := count(t, "/proc/self/fd"); now > files {
			return errors.New("descriptors are left")
		}
		return nil
	})
	if now := count(t, "/proc/self/task"); now > threads+20 {
		t.Errorf("%d threads have become %d", threads, now)
	}

	if _, err := n.Dial(t.Context(), "pod-c", 8080); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("a pod that is not there: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Dial(ended, "pod-a", 8080); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
}

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
