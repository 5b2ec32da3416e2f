package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestCount makes connections of every kind and ending, from everywhere, and
// expects each counted once on its path and as what it was.
func TestCount(t *testing.T) {
	for _, bridged := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+bridged, func(t *testing.T) {
			top := newTopology(t)
			if !top.bridged(bridged) {
				t.Skip("needs br_netfilter in the kernel")
			}
			testCount(t, top)
		})
	}
}

// ending is a way in which a connection can go.
type ending struct {
	name   string
	port   uint16                            // of the endpoint
	server func(*net.TCPConn)                // nil: nobody listens
	client func(t *testing.T, conn net.Conn) // what follows the handshake
	want   v1alpha1.TrafficCount
}

var endings = []ending{
	{"closed by the server", 8001, answerAndClose, askOnly, v1alpha1.TrafficCount{Connections: 1}},
	{"closed by the client", 8002, answerUntilClosed, askOnly, v1alpha1.TrafficCount{Connections: 1}},
	{"closed by the client in one direction first", 8003, answerAll, askAfterHalfClose, v1alpha1.TrafficCount{Connections: 1}},
	{"reset by the server", 8004, resetByServer, expectReset, v1alpha1.TrafficCount{Connections: 1, Reset: 1}},
	{"reset by the server for each of many packets", 8005, resetByServer, sendUntilReset, v1alpha1.TrafficCount{Connections: 1, Reset: 1}},
	{"reset by the client", 8006, answerUntilClosed, resetByClient, v1alpha1.TrafficCount{Connections: 1}},
	{"sent to after the server closed", 8007, answerAndClose, sendAfterClose, v1alpha1.TrafficCount{Connections: 1, Reset: 1}},
	{"refused by the endpoint", 8008, nil, nil, v1alpha1.TrafficCount{Connections: 1, Refused: 1}},
}

func testCount(t *testing.T, top *topology) {
	podServer := top.pod("10.42.0.5")
	client := top.pod("10.42.0.9")
	objects := ""
	for i, e := range endings {
		for j, address := range []string{"10.42.0.5", nodeAddress} {
			objects += fmt.Sprintf("service e%d-%d type=NodePort ip=10.43.%d.%d port=80:%d\n", i, j, j+1, i+1, 30000+100*j+i) +
				fmt.Sprintf("slice e%d-%d/s%d port=%d\n%s\n", i, j, 2*i+j, e.port, address)
		}
		if e.server != nil {
			podServer.serveEach(fmt.Sprint(":", e.port), e.server)
			top.node.serveEach(fmt.Sprint(":", e.port), e.server)
		}
	}
	top.set(objects + "service none type=NodePort ip=10.43.3.1 port=80:30300\n")

	for name, from := range map[string]*namespace{"node": top.node, "pod": client, "outside": top.outside} {
		for i, e := range endings {
			for j, address := range []string{"10.42.0.5", nodeAddress} {
				endpoint := netip.AddrPortFrom(netip.MustParseAddr(address), e.port)
				ways := []string{fmt.Sprintf("10.43.%d.%d:80", j+1, i+1), fmt.Sprintf("%s:%d", nodeAddress, 30000+100*j+i)}
				if from == top.node {
					ways = append(ways, fmt.Sprintf("127.0.0.1:%d", 30000+100*j+i))
				}
				for _, way := range ways {
					t.Run(fmt.Sprintf("%s/%s to %s/%s", e.name, name, endpoint, way), func(t *testing.T) {
						top.counts(t, Path{netip.MustParseAddrPort(way), endpoint}, e.want, func() { from.connect(t, way, e) })
					})
				}
			}
		}
		for _, way := range []string{"10.43.3.1:80", nodeAddress + ":30300"} {
			t.Run(fmt.Sprintf("refused without endpoint/%s/%s", name, way), func(t *testing.T) {
				to := netip.MustParseAddrPort(way)
				top.counts(t, Path{to, to}, v1alpha1.TrafficCount{Refused: 1}, func() { from.connect(t, way, ending{}) })
			})
		}
	}
}

// TestCountUnreachable: a pod that is no more without being out of the rules
// lets its connections time out, and who waits learns that it is not there.
func TestCountUnreachable(t *testing.T) {
	top := newTopology(t)
	top.bridged("0") // else the bridge asks for the pod before the rules see the packet leave
	client := top.pod("10.42.0.9")
	top.set("service web ip=10.43.0.10 port=80\nslice web/a port=8080\n10.42.0.77")
	path := Path{netip.MustParseAddrPort("10.43.0.10:80"), netip.MustParseAddrPort("10.42.0.77:8080")}
	want := map[Path]v1alpha1.TrafficCount{}
	for name, from := range map[string]*namespace{"node": top.node, "pod": client, "outside": top.outside} {
		from.connect(t, "10.43.0.10:80", ending{})
		want[path] = plus(want[path], v1alpha1.TrafficCount{Connections: 1, Refused: 1})
		if err := sameCounts(mustCount(t, realKernel(t, top.node)), want); err != nil {
			t.Errorf("from %s: %v", name, err)
		}
	}
}

// TestCountForgotten: a connection of which the kernel forgot where it went
// meets another endpoint, which resets what it does not know.
func TestCountForgotten(t *testing.T) {
	top := newTopology(t)
	client := top.pod("10.42.0.9")
	objects := "service web ip=10.43.0.10 port=80\nslice web/a port=8080\n"
	for _, address := range []string{"10.42.0.5", "10.42.0.6"} {
		top.pod(address).serveEach(":8080", answerUntilClosed)
	}
	top.set(objects + "10.42.0.5")
	way := netip.MustParseAddrPort("10.43.0.10:80")
	client.connect(t, way.String(), ending{server: answerUntilClosed, client: func(t *testing.T, conn net.Conn) {
		askOnly(t, conn)
		top.set(objects + "10.42.0.6")
		all := func(Flow) bool { return true }
		if n, err := NewConntrack(int(top.node.handle)).Forget(TCP, netip.MustParseAddr("10.42.0.5"), all); n != 1 || err != nil {
			t.Errorf("forgot %d, %v, want 1", n, err)
		}
		expectReset(t, conn)
	}})
	want := map[Path]v1alpha1.TrafficCount{
		{way, netip.MustParseAddrPort("10.42.0.5:8080")}: {Connections: 1},
		{way, netip.MustParseAddrPort("10.42.0.6:8080")}: {Reset: 1},
	}
	if err := sameCounts(mustCount(t, realKernel(t, top.node)), want); err != nil {
		t.Error(err)
	}
}

// TestCountOnlyServices: what does not go through a Service is not counted, nor
// is what is not TCP.
func TestCountOnlyServices(t *testing.T) {
	top := newTopology(t)
	pod, client := top.pod("10.42.0.5"), top.pod("10.42.0.9")
	pod.serve("one", ":8080")
	top.outside.serve("world", ":8080")
	top.set(web + "10.42.0.5\nservice none ip=10.43.0.11 port=53/udp")
	client.expect("pod to pod", "tcp4", "10.42.0.5:8080", "10.42.0.9", "one")
	client.expect("pod to the world", "tcp4", outsideAddress+":8080", nodeAddress, "world")
	client.expect("datagram", "udp4", "10.43.0.10:53", "10.42.0.9", "one")
	client.refused("datagram to no endpoint", "udp4", "10.43.0.11:53", syscall.ECONNREFUSED)
	client.refused("no Service", "tcp4", "10.43.0.99:80", syscall.ECONNREFUSED)
	client.refused("pod to closed port", "tcp4", "10.42.0.5:8081", syscall.ECONNREFUSED)
	if err := sameCounts(mustCount(t, realKernel(t, top.node)), nil); err != nil {
		t.Error(err)
	}
}

// TestListed: a table with all kinds of rules, and counts in it, is listed by
// the nft command in a form that it takes again.
func TestListed(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs the nft command")
	}
	top := newTopology(t)
	top.pod("10.42.0.5").serve("one", ":8080")
	top.set(web + "10.42.0.5\n10.42.0.6\nservice sticky type=LoadBalancer ip=10.43.0.11 port=80 affinity=60 outside=Local lb=192.0.2.8 from=192.0.2.0/24\nslice sticky/b port=8080\n10.42.0.5\n")
	top.set(web + "10.42.0.5")
	top.outside.expect("outside", "tcp4", "10.43.0.10:80", outsideAddress, "one")
	top.node.do(func() {
		listed, err := exec.Command(nft, "list", "ruleset").CombinedOutput()
		if err != nil || !strings.Contains(string(listed), "10.43.0.10 . 10.42.0.5 . 80 . 8080 counter packets 1 ") {
			t.Fatalf("%v:\n%s", err, listed)
		}
		check := exec.Command(nft, "-c", "-f", "-")
		check.Stdin = bytes.NewReader(listed)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, listed)
		}
	})
}

// counts runs connect a few times and expects that each time adds want on the
// path, and nothing on any other.
func (top *topology) counts(t *testing.T, path Path, want v1alpha1.TrafficCount, connect func()) {
	t.Helper()
	kernel := realKernel(t, top.node)
	before := mustCount(t, kernel)
	total := before[path]
	const times = 3
	for range times {
		connect()
		total = plus(total, want)
	}
	before[path] = total
	// What follows the end of a connection may still be on its way.
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = sameCounts(mustCount(t, kernel), before); err == nil {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func mustCount(t *testing.T, from Counters) map[Path]v1alpha1.TrafficCount {
	t.Helper()
	counts, err := from.Counts()
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func sameCounts(got, want map[Path]v1alpha1.TrafficCount) (err error) {
	for path := range want {
		if got[path] != want[path] {
			err = errors.Join(err, fmt.Errorf("%v: %+v, want %+v", path, got[path], want[path]))
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			err = errors.Join(err, fmt.Errorf("%v: %+v, want nothing", path, got[path]))
		}
	}
	return err
}

// connect makes one connection from the namespace and lets it end.
func (ns *namespace) connect(t *testing.T, way string, e ending) {
	t.Helper()
	ns.do(func() {
		conn, err := net.DialTimeout("tcp4", way, 10*time.Second)
		if e.server == nil {
			if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Errorf("%s: %v, want it refused", way, err)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", way, err)
			return
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Error(err)
		}
		e.client(t, conn)
	})
}

// serveEach serves every connection to an address in the namespace.
func (ns *namespace) serveEach(address string, serve func(*net.TCPConn)) {
	ns.t.Helper()
	ns.do(func() {
		listener, err := net.Listen("tcp4", address)
		ns.must(err)
		if err != nil {
			return
		}
		ns.t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = conn.Close() }()
					serve(conn.(*net.TCPConn))
				}()
			}
		}()
	})
}

func answerAndClose(conn *net.TCPConn) {
	_, _ = bufio.NewReader(conn).ReadString('\n')
	_, _ = fmt.Fprintln(conn, "answer")
}

func answerUntilClosed(conn *net.TCPConn) {
	for in := bufio.NewReader(conn); ; {
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		_, _ = fmt.Fprintln(conn, "answer")
	}
}

func answerAll(conn *net.TCPConn) {
	_, _ = io.ReadAll(conn)
	_, _ = fmt.Fprintln(conn, "answer")
}

func resetByServer(conn *net.TCPConn) {
	_, _ = bufio.NewReader(conn).ReadString('\n')
	_ = conn.SetLinger(0)
}

func askOnly(t *testing.T, conn net.Conn) {
	if _, err := fmt.Fprintln(conn, "question"); err != nil {
		t.Error(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Errorf("%q, %v", line, err)
	}
}

func askAfterHalfClose(t *testing.T, conn net.Conn) {
	_, err := fmt.Fprintln(conn, "question")
	if err := errors.Join(err, conn.(*net.TCPConn).CloseWrite()); err != nil {
		t.Error(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || len(answer) == 0 {
		t.Errorf("%q, %v", answer, err)
	}
}

func expectReset(t *testing.T, conn net.Conn) {
	_, _ = fmt.Fprintln(conn, "question")
	if answer, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v, want it reset", answer, err)
	}
}

// sendUntilReset has many packets on the way when the server resets: each that
// arrives after that is answered by another reset.
func sendUntilReset(t *testing.T, conn net.Conn) {
	part := append(make([]byte, 1<<20), '\n')
	for {
		if _, err := conn.Write(part); err != nil {
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%v, want it reset", err)
			}
			return
		}
	}
}

func resetByClient(t *testing.T, conn net.Conn) {
	askOnly(t, conn)
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Error(err)
	}
}

// sendAfterClose sends to a server that has closed: what a client loses that
// takes a connection out of its pool at that moment.
func sendAfterClose(t *testing.T, conn net.Conn) {
	_, _ = fmt.Fprintln(conn, "question")
	if answer, err := io.ReadAll(conn); err != nil || len(answer) == 0 {
		t.Errorf("%q, %v", answer, err)
	}
	_, _ = fmt.Fprintln(conn, "another")
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("an answer on a connection that is closed")
	}
}
