package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// diagnostics is a netlink socket for socket diagnostics (sock_diag(7)) in one
// network namespace. It is not safe for concurrent use.
type diagnostics struct {
	fd  int
	seq uint32
}

// openDiagnostics opens the socket that asks the network namespace mounted at path.
func openDiagnostics(path string) (*diagnostics, error) {
	ns, err := openNamespace(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	d := &diagnostics{}
	err = inNamespace(enter(ns), func() error {
		d.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		return err
	})
	if err != nil {
		return nil, err
	}
	// The kernel answers at once; should it not, nobody may hang.
	if err := unix.SetsockoptTimeval(d.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *diagnostics) close() { _ = unix.Close(d.fd) }

// buffers are for the kernel's answers: it sends at most 32 KiB at a time.
var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// From linux/inet_diag.h and linux/tcp.h.
const (
	tcpDiagGetSock = 18 // the request that covers both address families
	requestSize    = 16 + 4 + 48 + 8
	messageSize    = 72
	attrTCPInfo    = 2 // INET_DIAG_INFO

	infoLastDataSent  = 44 // milliseconds
	infoLastDataRecv  = 52 // milliseconds
	infoBytesAcked    = 120
	infoBytesReceived = 128
)

// sockets asks for all TCP sockets.
func (d *diagnostics) sockets() ([]agent.Socket, error) {
	d.seq++
	var request [requestSize]byte
	order := binary.NativeEndian
	order.PutUint32(request[0:], requestSize)
	order.PutUint16(request[4:], tcpDiagGetSock)
	order.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	order.PutUint32(request[8:], d.seq)
	request[16+3] = 1 << (attrTCPInfo - 1)
	order.PutUint32(request[16+4+48:], 0xfff) // every state
	if err := unix.Sendto(d.fd, request[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	var found []agent.Socket
	for {
		size, _, err := unix.Recvfrom(d.fd, *buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("socket diagnostics: %w", err)
		}
		var done bool
		if found, done, err = parseAnswer((*buffer)[:size], d.seq, found); err != nil || done {
			return found, err
		}
	}
}

// parseAnswer reads one datagram of the kernel's answer (netlink(7)) and appends
// the sockets in it. Done tells that it was the last.
func parseAnswer(data []byte, seq uint32, found []agent.Socket) (_ []agent.Socket, done bool, err error) {
	order := binary.NativeEndian
	for len(data) >= unix.SizeofNlMsghdr {
		length, kind := int(order.Uint32(data)), order.Uint16(data[4:])
		if length < unix.SizeofNlMsghdr || length > len(data) {
			return found, false, fmt.Errorf("socket diagnostics: message of %d bytes in %d", length, len(data))
		}
		body, ours := data[unix.SizeofNlMsghdr:length], order.Uint32(data[8:]) == seq
		data = data[min(align(length), len(data)):]
		switch {
		case !ours:
		case kind == unix.NLMSG_DONE:
			return found, true, nil
		case kind == unix.NLMSG_ERROR:
			if len(body) < 4 {
				return found, false, errors.New("socket diagnostics: short error")
			}
			return found, true, fmt.Errorf("socket diagnostics: %w", unix.Errno(-int32(order.Uint32(body))))
		case kind == tcpDiagGetSock || kind == unix.SOCK_DIAG_BY_FAMILY:
			socket, err := parseSocket(body)
			if err != nil {
				return found, false, err
			}
			found = append(found, socket)
		}
	}
	return found, false, nil
}

// parseSocket reads a struct inet_diag_msg and the attributes after it.
func parseSocket(body []byte) (agent.Socket, error) {
	if len(body) < messageSize {
		return agent.Socket{}, fmt.Errorf("socket diagnostics: socket of %d bytes", len(body))
	}
	order := binary.NativeEndian
	family, state := body[0], body[1]
	s := agent.Socket{
		State:        socketState(state),
		LocalAddr:    address(family, body[8:24]),
		LocalPort:    binary.BigEndian.Uint16(body[4:]),
		RemoteAddr:   address(family, body[24:40]),
		RemotePort:   binary.BigEndian.Uint16(body[6:]),
		ReceiveQueue: order.Uint32(body[56:]),
		SendQueue:    order.Uint32(body[60:]),
	}
	if s.State == agent.SocketListen {
		s.SendQueue = 0 // the length of the backlog
	}
	for attrs := body[messageSize:]; len(attrs) >= 4; {
		length := int(order.Uint16(attrs))
		if length < 4 || length > len(attrs) {
			return agent.Socket{}, fmt.Errorf("socket diagnostics: attribute of %d bytes in %d", length, len(attrs))
		}
		// Listeners have no such data, and old kernels a shorter structure.
		if info := attrs[4:length]; order.Uint16(attrs[2:]) == attrTCPInfo && len(info) >= infoBytesReceived+8 {
			s.LastSent = time.Duration(order.Uint32(info[infoLastDataSent:])) * time.Millisecond
			s.LastReceived = time.Duration(order.Uint32(info[infoLastDataRecv:])) * time.Millisecond
			s.BytesSent = order.Uint64(info[infoBytesAcked:])
			s.BytesReceived = order.Uint64(info[infoBytesReceived:])
		}
		attrs = attrs[min(align(length), len(attrs)):]
	}
	return s, nil
}

// align rounds up to the four bytes that netlink aligns to.
func align(n int) int { return (n + 3) &^ 3 }

// address reads an address of a family from its sixteen bytes.
func address(family byte, data []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(data[:4]))
	}
	return netip.AddrFrom16([16]byte(data[:16])).Unmap()
}

// socketState groups the kernel's states (include/net/tcp_states.h).
func socketState(state byte) agent.SocketState {
	switch state {
	case 1:
		return agent.SocketEstablished
	case 3, 12:
		return agent.SocketSynReceived
	case 4, 9, 11: // FIN_WAIT1, LAST_ACK, CLOSING
		return agent.SocketClosing
	case 8:
		return agent.SocketCloseWait
	case 10:
		return agent.SocketListen
	default:
		return agent.SocketOther
	}
}
