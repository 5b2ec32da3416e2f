package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/test/harness"
)

// noNamespace is why the tests of the kernel's side cannot run here.
var noNamespace error

func TestMain(m *testing.M) {
	noNamespace = harness.EnterNamespace()
	if noNamespace != nil && !errors.Is(noNamespace, harness.ErrNoNamespace) {
		fmt.Println(noNamespace)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func newNetwork(t *testing.T, dir string) *Network {
	t.Helper()
	if noNamespace != nil {
		t.Skip(noNamespace)
	}
	n, err := New(Config{DataDir: dir, Bridge: "windlass0", PodRange: netip.MustParsePrefix("10.42.0.0/24"), ServiceRange: netip.MustParsePrefix("10.43.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.EnsureHost(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func setup(t *testing.T, n *Network, pod string) agent.PodNetwork {
	t.Helper()
	network, err := n.Setup(t.Context(), pod, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Teardown(context.Background(), pod) })
	return network
}

// listen runs a TCP echo of busybox in the pod until the test ends.
func listen(t *testing.T, pod agent.PodNetwork) {
	t.Helper()
	server := exec.Command("nsenter", "--net="+pod.NetNS, "busybox", "nc", "-ll", "-p", "8080", "-e", "busybox", "cat")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestPodIsReached: the node reaches a pod, a pod reaches another, and socket
// diagnostics see it listen, receive and answer.
func TestPodIsReached(t *testing.T) {
	n := newNetwork(t, t.TempDir())
	a, b := setup(t, n, "pod-a"), setup(t, n, "pod-b")
	if a.IP == b.IP {
		t.Fatalf("both pods have %s", a.IP)
	}
	listen(t, a)
	eventually(t, func() error { return has(t, n, "pod-a", agent.SocketListen) })
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	sockets, err := n.Sockets(t.Context(), "")
	if err != nil || !slices.ContainsFunc(sockets, func(s agent.Socket) bool {
		return s.State == agent.SocketListen && s.LocalPort == own.Addr().(*net.TCPAddr).AddrPort().Port()
	}) {
		t.Errorf("sockets of the node: %+v, %v; want the one at %s", sockets, err, own.Addr())
	}

	conn, err := net.Dial("tcp", netip.AddrPortFrom(a.IP, 8080).String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		sockets, err := n.Sockets(t.Context(), "pod-a")
		for _, s := range sockets {
			if s.State == agent.SocketEstablished && s.BytesReceived == 5 && s.BytesSent == 5 && s.LocalPort == 8080 {
				return nil
			}
		}
		return fmt.Errorf("no connection with 5 bytes each way: %+v, %v", sockets, err)
	})
	conn.Close()

	client := exec.Command("nsenter", "--net="+b.NetNS, "busybox", "nc", "-w", "2", a.IP.String(), "8080")
	client.Stdin = strings.NewReader("from b")
	if out, err := client.CombinedOutput(); err != nil || string(out) != "from b" {
		t.Errorf("pod-b sends to pod-a and hears %q, %v", out, err)
	}
}

func has(t *testing.T, n *Network, pod string, state agent.SocketState) error {
	sockets, err := n.Sockets(t.Context(), pod)
	if err != nil {
		return err
	}
	for _, s := range sockets {
		if s.State == state {
			return nil
		}
	}
	return fmt.Errorf("no socket in %s: %+v", state, sockets)
}

// TestSetupMends: a second Setup, by another process or after a reboot took
// the namespace, keeps the address and the pod is reached again.
func TestSetupMends(t *testing.T) {
	dir := t.TempDir()
	n := newNetwork(t, dir)
	first := setup(t, n, "pod-a")
	again := newNetwork(t, dir)
	if second := setup(t, again, "pod-a"); second != first {
		t.Errorf("%+v, want %+v", second, first)
	}
	// A reboot leaves the file without the namespace.
	if err := unix.Unmount(first.NetNS, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	rebooted := newNetwork(t, dir)
	third := setup(t, rebooted, "pod-a")
	if third != first {
		t.Errorf("%+v, want %+v", third, first)
	}
	listen(t, third)
	eventually(t, func() error {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(third.IP, 8080).String(), time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// TestNamespaceOfRunningContainer: in another mount namespace the pod's
// namespace is found through its process.
func TestNamespaceOfRunningContainer(t *testing.T) {
	dir := t.TempDir()
	n := newNetwork(t, dir)
	pod := setup(t, n, "pod-a")
	process := exec.Command("nsenter", "--net="+pod.NetNS, "sleep", "60")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	defer process.Wait()
	defer process.Process.Kill()
	inode := func(path string) uint64 {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Ino
	}
	want := inode(pod.NetNS)
	eventually(t, func() error {
		if got := inode(fmt.Sprintf("/proc/%d/ns/net", process.Process.Pid)); got != want {
			return fmt.Errorf("the process is in namespace %d, not %d yet", got, want)
		}
		return nil
	})
	if err := unix.Unmount(pod.NetNS, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	// Its sockets are seen before anybody sets it up again.
	restarted, err := New(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if sockets, err := restarted.Sockets(t.Context(), "pod-a"); err != nil || len(sockets) > 0 {
		t.Errorf("a pod without processes: %v, %v; want no sockets", sockets, err)
	}
	if _, err := restarted.Sockets(t.Context(), "pod-b"); err == nil {
		t.Error("sockets of a pod that does not exist")
	}
	n.cfg.ContainerPids = func(string) []int { return []int{process.Process.Pid} }
	if restarted, err = New(n.cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := restarted.Sockets(t.Context(), "pod-a"); err != nil {
		t.Error(err)
	}
	if got := inode(setup(t, n, "pod-a").NetNS); got != want {
		t.Errorf("namespace %d, want the container's %d", got, want)
	}
}

// TestNothingLeaks: links, mounts and records are as before.
func TestNothingLeaks(t *testing.T) {
	n := newNetwork(t, t.TempDir())
	count := func() string {
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		mounted := 0 // by this test: others mount theirs meanwhile
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, " - nsfs ") && strings.Contains(line, n.cfg.DataDir) {
				mounted++
			}
		}
		pods, err := n.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d links, %d namespaces mounted, %d pods", len(links), mounted, len(pods))
	}
	before := count()
	for i := range 20 {
		pod := fmt.Sprintf("pod-%d", i)
		if _, err := n.Setup(t.Context(), pod, nil); err != nil {
			t.Fatal(err)
		}
		if err := n.Teardown(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		if err := n.Teardown(t.Context(), pod); err != nil {
			t.Errorf("a second teardown: %v", err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%s, before that %s", after, before)
	}
}

// TestServiceRangeStays: with the bridge gone the unreachable route is left,
// whatever the default route says.
func TestServiceRangeStays(t *testing.T) {
	newNetwork(t, t.TempDir())
	if err := removeLink("windlass0"); err != nil {
		t.Fatal(err)
	}
	routes, err := netlink.RouteGet(net.IPv4(10, 43, 0, 1))
	if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("a packet for the service range would go %v, %v", routes, err)
	}
}

func BenchmarkSetupTeardown(b *testing.B) {
	if noNamespace != nil {
		b.Skip(noNamespace)
	}
	n, err := New(Config{DataDir: b.TempDir(), Bridge: "windlass0", PodRange: netip.MustParsePrefix("10.42.0.0/24"), ServiceRange: netip.MustParsePrefix("10.43.0.0/16")})
	if err != nil {
		b.Fatal(err)
	}
	if err := n.EnsureHost(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := n.Setup(b.Context(), "pod", nil); err != nil {
			b.Fatal(err)
		}
		if err := n.Teardown(b.Context(), "pod"); err != nil {
			b.Fatal(err)
		}
	}
}
