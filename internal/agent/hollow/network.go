package hollow

import (
	"context"
	"net/netip"
	"slices"
	"time"

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

func (f fakeNetwork) Setup(ctx context.Context, podUID string) (agent.PodNetwork, error) {
	n := f.n
	if err := sleep(ctx, n.SetupTakes); err != nil {
		return agent.PodNetwork{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	network, ok := n.networks[podUID]
	if !ok {
		network = agent.PodNetwork{PodUID: podUID, NetNS: "/run/netns/" + podUID, IP: n.nextIP}
		n.nextIP = n.nextIP.Next()
		n.networks[podUID] = network
		n.calls = append(n.calls, "network "+network.IP.String())
	}
	return network, nil
}

func (f fakeNetwork) Teardown(_ context.Context, podUID string) error {
	n := f.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if network, ok := n.networks[podUID]; ok {
		n.calls = append(n.calls, "teardown "+network.IP.String())
		delete(n.networks, podUID)
		delete(n.sockets, podUID)
	}
	return nil
}

func (f fakeNetwork) Sockets(_ context.Context, podUID string) ([]agent.Socket, error) {
	n := f.n
	n.mu.Lock()
	defer n.mu.Unlock()
	sockets := slices.Clone(n.sockets[podUID])
	for _, c := range n.containers {
		if c.PodUID != podUID || c.Phase != agent.ContainerRunning || time.Since(c.StartedAt) < c.program.ListenAfter {
			continue
		}
		for _, port := range c.program.Listens {
			sockets = append(sockets, agent.Socket{State: agent.SocketListen, LocalAddr: netip.IPv6Unspecified(), LocalPort: port})
		}
	}
	return sockets, nil
}
