package hollow

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"windlass.dev/windlass/internal/agent"
)

// Network returns the node's network.
func (n *Node) Network() agent.Network { return fakeNetwork{n} }

type fakeNetwork struct{ n *Node }

func (f fakeNetwork) List(context.Context) ([]agent.PodNetwork, error) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	var list []agent.PodNetwork
	for _, network := range f.n.networks {
		list = append(list, network)
	}
	return list, nil
}

func (f fakeNetwork) Setup(ctx context.Context, podUID string, _ *agent.UserRange) (agent.PodNetwork, error) {
	n := f.n
	if err := sleep(ctx, n.SetupTakes); err != nil {
		return agent.PodNetwork{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	network, ok := n.networks[podUID]
	if !ok {
		ip, err := n.takeAddress()
		if err != nil {
			return agent.PodNetwork{}, err
		}
		network = agent.PodNetwork{PodUID: podUID, NetNS: "/run/netns/" + podUID, IP: ip}
		n.networks[podUID] = network
		n.called("network %s", network.IP)
	}
	return network, nil
}

// takeAddress takes the next free address, so that one that was just given back
// is not given out at once.
func (n *Node) takeAddress() (netip.Addr, error) {
	for range 1 << (32 - n.addresses.Bits()) {
		ip := n.nextIP
		if n.nextIP = ip.Next(); !n.addresses.Contains(n.nextIP.Next()) { // the last is the broadcast address
			n.nextIP = firstPodAddress(n.addresses)
		}
		if !n.taken[ip] {
			n.taken[ip] = true
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("all addresses of %s are taken", n.addresses)
}

func (f fakeNetwork) Teardown(_ context.Context, podUID string) error {
	n := f.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if network, ok := n.networks[podUID]; ok {
		n.called("teardown %s", network.IP)
		delete(n.taken, network.IP)
		delete(n.networks, podUID)
		delete(n.sockets, podUID)
		delete(n.unready, podUID)
	}
	return nil
}

func (f fakeNetwork) Sockets(_ context.Context, podUID string) ([]agent.Socket, error) {
	n := f.n
	n.mu.Lock()
	defer n.mu.Unlock()
	sockets := slices.Clone(n.sockets[podUID])
	for _, c := range n.containers {
		if c.PodUID != podUID || !c.listening() {
			continue
		}
		for _, port := range c.program.Listens {
			sockets = append(sockets, agent.Socket{State: agent.SocketListen, LocalAddr: netip.IPv6Unspecified(), LocalPort: port})
		}
	}
	return sockets, nil
}

// Dial implements agent.Network: no process is there that could answer.
func (f fakeNetwork) Dial(_ context.Context, podUID string, port uint16) (net.Conn, error) {
	return nil, fmt.Errorf("pod %s: nothing answers at port %d of a hollow node's pod, whose containers run no processes", podUID, port)
}
