package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// dialPatience bounds a connection to a port on a loopback interface: only a
// process that does not accept what it listens for makes it last.
const dialPatience = 5 * time.Second

// Dial implements agent.Network.
func (n *Network) Dial(ctx context.Context, podUID string, port uint16) (net.Conn, error) {
	ns, err := n.openPod(podUID)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var conn net.Conn
	err = inNamespace(enter(ns), func() (refused error) {
		conn, refused = dialLoopback(ctx, port)
		return refused
	})
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of pod %s: %w", port, podUID, err)
	}
	return conn, nil
}

// openPod opens the network namespace of a pod.
func (n *Network) openPod(podUID string) (*os.File, error) {
	if !n.addresses.has(podUID) {
		return nil, fmt.Errorf("pod %s has no network", podUID)
	}
	pod := n.pod(podUID)
	pod.mu.Lock()
	defer pod.mu.Unlock()
	if !n.findNamespace(podUID) {
		return nil, fmt.Errorf("the network namespace of pod %s is gone", podUID)
	}
	return openNamespace(n.namespacePath(podUID))
}

// dialLoopback connects to a port of the loopback interface in the network
// namespace of the calling thread. Addresses, other than names, are dialled on
// that thread, and a socket stays in the namespace that it was made in.
func dialLoopback(ctx context.Context, port uint16) (net.Conn, error) {
	var dialer net.Dialer
	conn, refused := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
	if refused == nil {
		return conn, nil
	}
	if conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.IPv6Loopback(), port).String()); err == nil {
		return conn, nil
	}
	return nil, refused
}
