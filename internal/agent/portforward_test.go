package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"windlass.dev/windlass/internal/agent"
)

// dialled is a network whose pods' ports are served by this process.
type dialled struct {
	agent.Network
	mu    sync.Mutex
	uids  []string
	ports map[uint16]string // where they are served
}

func (d *dialled) Dial(ctx context.Context, podUID string, port uint16) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uids = append(d.uids, podUID)
	address, ok := d.ports[port]
	if !ok {
		return nil, fmt.Errorf("connection to port %d refused", port)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", address)
}

// forwarding is a client that forwards local ports until it is closed.
type forwarding struct {
	t     *testing.T
	close func()
	ended chan error
	local []portforward.ForwardedPort
}

func startForwarding(t *testing.T, base, pod string, ports ...string) *forwarding {
	t.Helper()
	target, err := url.Parse(base + "/portForward/default/" + pod)
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarding{t: t, close: sync.OnceFunc(func() { close(stop) }), ended: make(chan error, 1)}
	t.Cleanup(f.close)
	go func() { f.ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-f.ended:
		t.Fatalf("forwarding ended before it began: %v", err)
	}
	if f.local, err = forwarder.GetPorts(); err != nil {
		t.Fatal(err)
	}
	return f
}

// exchange sends data, closes the sending half, and returns the answer, as far as
// it comes.
func (f *forwarding) exchange(data []byte) []byte {
	f.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.local[0].Local))
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = conn.Write(data)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	answer, _ := io.ReadAll(conn)
	return answer
}

// knock connects until the forwarding has ended, and returns why it did. One
// connection does not always do: the client may see its stream reset before it
// hears of it.
func (f *forwarding) knock() error {
	for {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.local[0].Local)); err == nil {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
		select {
		case err := <-f.ended:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// serveTCP serves connections on a port of loopback until the test ends.
func serveTCP(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return listener.Addr().String()
}

// forwardingGoroutines returns the stacks of those that forward.
func forwardingGoroutines() string {
	all := make([]byte, 4<<20)
	all = all[:runtime.Stack(all, true)]
	var found []string
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		if strings.Contains(stack, "agent.forwarder.") || strings.Contains(stack, "agent.(*Agent).forwardPorts") {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

func testPortForward(t *testing.T, h *harness) {
	echo := serveTCP(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	rude := serveTCP(t, func(conn *net.TCPConn) { // resets
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.SetLinger(0)
	})
	network := &dialled{Network: h.node.Network(), ports: map[uint16]string{80: echo, 81: rude}}
	h.network = network
	h.start()
	pod := h.untilReady(h.pod("web", nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(h.agent.Handler(ctx))
	defer server.Close()

	if response, err := http.Post(server.URL+"/portForward/default/nobody", "", nil); err != nil || response.StatusCode != http.StatusNotFound {
		t.Errorf("a pod that is not there: %v, %v", response, err)
	}

	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	f := startForwarding(t, server.URL, pod.Name, "0:80")
	for range 3 {
		if got := f.exchange([]byte("hello")); string(got) != "hello" {
			t.Errorf("got %q", got)
		}
		if got := f.exchange(big); !bytes.Equal(got, big) {
			t.Errorf("of %d bytes %d came back", len(big), len(got))
		}
	}
	var together sync.WaitGroup
	for range 8 {
		together.Go(func() {
			if got := f.exchange(big); !bytes.Equal(got, big) {
				t.Errorf("of %d bytes %d came back", len(big), len(got))
			}
		})
	}
	together.Wait()
	network.mu.Lock()
	for _, uid := range network.uids {
		if uid != string(pod.UID) {
			t.Errorf("connected to pod %s, not %s", uid, pod.UID)
		}
	}
	network.mu.Unlock()
	f.close()
	if err := <-f.ended; err != nil {
		t.Error(err)
	}
	h.until("nothing of the forwarding is left", func() bool { return forwardingGoroutines() == "" })

	// Connections that the pod resets do not end the forwarding.
	f = startForwarding(t, server.URL, pod.Name, "0:81")
	for range 3 {
		f.exchange(big)
	}
	select {
	case err := <-f.ended:
		t.Errorf("a reset connection ended the forwarding: %v", err)
	default:
	}
	f.close()

	// A port at which nobody listens ends it, as with Kubernetes.
	f = startForwarding(t, server.URL, pod.Name, "0:82")
	if err := f.knock(); err == nil || !strings.Contains(err.Error(), "lost connection to pod") {
		t.Errorf("ended with %v", err)
	}

	// With the agent, everything ends.
	f = startForwarding(t, server.URL, pod.Name, "0:80")
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.local[0].Local))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-f.ended
	h.until("nothing of the forwarding is left", func() bool { return forwardingGoroutines() == "" })
}
