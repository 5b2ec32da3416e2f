package network

import (
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// diagnostics is a socket for sock_diag(7) inside a pod's network namespace.
type diagnostics struct{ handle *netlink.Handle }

func openDiagnostics(path string) (*diagnostics, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, err
	}
	return &diagnostics{handle: handle}, nil
}

func (d *diagnostics) close() { d.handle.Close() }

func (d *diagnostics) sockets() ([]agent.Socket, error) {
	var sockets []agent.Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := d.handle.SocketDiagTCPInfo(family)
		if err != nil {
			return nil, err
		}
		for _, entry := range list {
			sockets = append(sockets, socketOf(entry))
		}
	}
	return sockets, nil
}

// socketOf translates what the kernel says of one socket.
func socketOf(entry *netlink.InetDiagTCPInfoResp) agent.Socket {
	message := entry.InetDiagMsg
	socket := agent.Socket{
		State:        stateOf(message.State),
		LocalAddr:    addressOf(message.ID.Source),
		LocalPort:    message.ID.SourcePort,
		RemoteAddr:   addressOf(message.ID.Destination),
		RemotePort:   message.ID.DestinationPort,
		ReceiveQueue: message.RQueue,
		SendQueue:    message.WQueue,
	}
	if info := entry.TCPInfo; info != nil && socket.State != agent.SocketListen {
		socket.BytesReceived = info.Bytes_received
		socket.BytesSent = info.Bytes_acked
		socket.LastReceived = time.Duration(info.Last_data_recv) * time.Millisecond
		socket.LastSent = time.Duration(info.Last_data_sent) * time.Millisecond
	}
	return socket
}

func addressOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// stateOf groups the states of include/net/tcp_states.h.
func stateOf(state uint8) agent.SocketState {
	switch state {
	case netlink.TCP_LISTEN:
		return agent.SocketListen
	case netlink.TCP_SYN_RECV, netlink.TCP_NEW_SYN_REC:
		return agent.SocketSynReceived
	case netlink.TCP_ESTABLISHED:
		return agent.SocketEstablished
	case netlink.TCP_CLOSE_WAIT:
		return agent.SocketCloseWait
	case netlink.TCP_FIN_WAIT1, netlink.TCP_LAST_ACK, netlink.TCP_CLOSING:
		return agent.SocketClosing
	default:
		return agent.SocketOther
	}
}
