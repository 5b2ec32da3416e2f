package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

func TestSocketStates(t *testing.T) {
	want := map[byte]agent.SocketState{
		1: agent.SocketEstablished, 2: agent.SocketOther, 3: agent.SocketSynReceived, 4: agent.SocketClosing, 5: agent.SocketOther,
		6: agent.SocketOther, 7: agent.SocketOther, 8: agent.SocketCloseWait, 9: agent.SocketClosing, 10: agent.SocketListen,
		11: agent.SocketClosing, 12: agent.SocketSynReceived,
	}
	for state, group := range want {
		if got := socketState(state); got != group {
			t.Errorf("state %d is %s, want %s", state, got, group)
		}
	}
}

// TestSocketsOfThisNamespace: what the kernel says of sockets that this process
// holds, in both families and through every stage of their lives.
func TestSocketsOfThisNamespace(t *testing.T) {
	if noNamespace != nil {
		t.Skip(noNamespace)
	}
	d, err := openDiagnostics("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	find := func(is func(agent.Socket) bool) (agent.Socket, bool) {
		t.Helper()
		list, err := d.sockets()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			if is(s) {
				return s, true
			}
		}
		return agent.Socket{}, false
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		local := listener.Addr().(*net.TCPAddr).AddrPort()
		if _, ok := find(func(s agent.Socket) bool {
			return s.State == agent.SocketListen && s.LocalPort == local.Port() && s.LocalAddr == local.Addr().Unmap() && s.SendQueue == 0
		}); !ok {
			t.Fatalf("nobody listens on %s", local)
		}
		target := local
		if local.Addr().IsUnspecified() { // an IPv4 connection to an IPv6 socket
			target = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), local.Port())
		}
		client, err := net.DialTimeout("tcp", target.String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		ours := func(s agent.Socket) bool {
			return s.State != agent.SocketListen && s.LocalPort == local.Port() && s.LocalAddr == target.Addr() &&
				s.RemotePort == client.LocalAddr().(*net.TCPAddr).AddrPort().Port() && s.RemoteAddr == target.Addr()
		}
		if s, ok := find(ours); !ok || s.State != agent.SocketEstablished || s.BytesReceived != 0 || s.BytesSent != 0 || s.ReceiveQueue != 0 {
			t.Errorf("%s, new: %+v", address, s)
		}
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if s, ok := find(ours); !ok || s.BytesReceived != 5 || s.ReceiveQueue != 5 {
			t.Errorf("%s, unread: %+v", address, s)
		}
		if _, err := server.Read(make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if s, ok := find(ours); !ok || s.BytesReceived != 5 || s.ReceiveQueue != 0 || s.BytesSent+uint64(s.SendQueue) != 6 || s.LastSent > time.Second {
			t.Errorf("%s, answered: %+v", address, s)
		}
		if err := client.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if s, ok := find(ours); !ok || s.State != agent.SocketCloseWait {
			t.Errorf("%s, closed by the peer: %+v", address, s)
		}
	}
}

// answerOf wraps sockets as the kernel sends them.
func answerOf(seq uint32, bodies ...[]byte) []byte {
	var out []byte
	for _, body := range bodies {
		header := make([]byte, unix.SizeofNlMsghdr)
		binary.NativeEndian.PutUint32(header, uint32(len(header)+len(body)))
		binary.NativeEndian.PutUint16(header[4:], tcpDiagGetSock)
		binary.NativeEndian.PutUint32(header[8:], seq)
		out = append(append(out, header...), body...)
	}
	return out
}

// FuzzParseAnswer: no bytes make it fail otherwise than by an error, and it finds
// no more sockets than there is room for.
func FuzzParseAnswer(f *testing.F) {
	f.Add(answerOf(1, make([]byte, messageSize), make([]byte, messageSize+8)))
	f.Add([]byte{16, 0, 0, 0, 3, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		found, _, err := parseAnswer(data, 1, nil)
		if err == nil && len(found) > len(data)/messageSize {
			t.Errorf("%d sockets in %d bytes", len(found), len(data))
		}
	})
}

func BenchmarkSockets(b *testing.B) {
	if noNamespace != nil {
		b.Skip(noNamespace)
	}
	d, err := openDiagnostics("/proc/self/ns/net")
	if err != nil {
		b.Fatal(err)
	}
	defer d.close()
	for b.Loop() {
		if _, err := d.sockets(); err != nil {
			b.Fatal(err)
		}
	}
}
