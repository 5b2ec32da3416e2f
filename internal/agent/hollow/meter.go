package hollow

import (
	"context"
	"time"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/eviction"
)

// Meter returns the node's meter, which tells what Use has said.
func (n *Node) Meter() agent.Meter { return fakeMeter{n} }

type fakeMeter struct{ n *Node }

// Use says what the containers of a pod use and have written, each.
func (n *Node) Use(podUID string, used agent.Used, written int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used[podUID], n.written[podUID] = used, written
}

// Leave says how much there is left of the node.
func (n *Node) Leave(levels map[eviction.Signal]eviction.Level) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.levels = levels
}

// Levels tells what Leave has said; agent.Config wants it.
func (n *Node) Levels(agent.Usage) (map[eviction.Signal]eviction.Level, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.levels, nil
}

func (m fakeMeter) Usage(context.Context) (agent.Usage, error) {
	n := m.n
	n.mu.Lock()
	defer n.mu.Unlock()
	usage := agent.Usage{At: time.Now()}
	for _, c := range n.list() {
		if c.Phase == agent.ContainerRunning {
			used := n.used[c.PodUID]
			usage.Node.Memory += used.Memory
			usage.Node.CPU += used.CPU
			usage.Containers = append(usage.Containers, agent.ContainerUsage{ID: c.ID, PodUID: c.PodUID, Name: c.Name, StartedAt: c.StartedAt, Used: used})
		}
	}
	return usage, nil
}

func (m fakeMeter) Written(_ context.Context, id string) (eviction.Disk, error) {
	m.n.mu.Lock()
	defer m.n.mu.Unlock()
	if c := m.n.containers[id]; c != nil {
		return eviction.Disk{Bytes: m.n.written[c.PodUID], Inodes: 1}, nil
	}
	return eviction.Disk{}, nil
}
