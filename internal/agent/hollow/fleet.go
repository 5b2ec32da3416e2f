package hollow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/agent"
)

// What a node tells that it has: enough that only the number of pods bounds it.
const (
	nodeCPUs   = 1000
	nodeMemory = 4 << 40
	nodeBits   = 24 // a node's share of the pod range
)

// FleetConfig says what a Fleet is and what it stands on.
type FleetConfig struct {
	Nodes    int
	MaxPods  int          // on each node; default 250, which is also the most that addresses allow
	PodRange netip.Prefix // each node has a /24 of it
	DataDir  string       // almost nothing is kept there

	// Client and Cache are as in agent.Config. Recorder returns what tells events
	// of a node.
	Client   client.Client
	Cache    cache.Cache
	Recorder func(node string) record.EventRecorder

	Version    string
	Kubernetes string
	Log        *slog.Logger // default slog.Default()
}

// Fleet is many hollow nodes in one process, each with the real agent. The nodes
// live as long as it does: an agent that is stopped and started again finds its
// containers.
type Fleet struct {
	cfg   FleetConfig
	feed  *agent.Feed
	names []string
	nodes map[string]*Node

	mu      sync.Mutex
	ctx     context.Context // of Run
	stops   map[string]func()
	failed  chan error
	running sync.WaitGroup
}

// NewFleet returns a fleet whose nodes are named hollow-1, hollow-2 and so on. It
// starts nothing. The error says which number of nodes the pod range allows.
func NewFleet(cfg FleetConfig) (*Fleet, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Nodes < 1 {
		return nil, fmt.Errorf("%d hollow nodes: there has to be one at least", cfg.Nodes)
	}
	if most := MostNodes(cfg.PodRange); cfg.Nodes > most {
		return nil, fmt.Errorf("%d hollow nodes need a larger pod range than %s, which has room for %d of them (each has a /%d)", cfg.Nodes, cfg.PodRange, most, nodeBits)
	}
	f := &Fleet{cfg: cfg, feed: agent.NewFeed(cfg.Cache), nodes: map[string]*Node{}, stops: map[string]func(){}, failed: make(chan error, 1)}
	addresses := netip.PrefixFrom(cfg.PodRange.Masked().Addr(), nodeBits)
	for i := range cfg.Nodes {
		name := fmt.Sprintf("hollow-%d", i+1)
		f.names = append(f.names, name)
		f.nodes[name] = NewBoundless(addresses)
		addresses = after(addresses)
	}
	return f, nil
}

// MostNodes is how many hollow nodes a pod range has room for.
func MostNodes(podRange netip.Prefix) int {
	if podRange.Bits() > nodeBits {
		return 0
	}
	return 1 << min(nodeBits-podRange.Bits(), 16)
}

// after is the network behind one, of the same size, for /24 networks.
func after(p netip.Prefix) netip.Prefix {
	bytes := p.Addr().As4()
	for i := 2; i >= 0; i-- {
		if bytes[i]++; bytes[i] != 0 {
			break
		}
	}
	return netip.PrefixFrom(netip.AddrFrom4(bytes), p.Bits())
}

// Names returns the names of the nodes.
func (f *Fleet) Names() []string { return f.names }

// Node returns a node, nil if there is none of that name.
func (f *Fleet) Node(name string) *Node { return f.nodes[name] }

// Run runs an agent for each node until ctx ends. It returns an error if an
// agent could not begin.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer f.running.Wait()
	defer cancel()
	f.mu.Lock()
	f.ctx = ctx
	f.mu.Unlock()
	for _, name := range f.names {
		if err := f.Start(name); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-f.failed:
		return err
	}
}

// Start starts the agent of a node, in a fleet that runs.
func (f *Fleet) Start(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.nodes[name]
	switch {
	case node == nil:
		return fmt.Errorf("there is no hollow node %q", name)
	case f.ctx == nil || f.ctx.Err() != nil:
		return errors.New("the hollow nodes do not run")
	case f.stops[name] != nil:
		return fmt.Errorf("the agent of %s runs already", name)
	}
	a, err := f.agent(name, node)
	if err != nil {
		return fmt.Errorf("hollow node %s: %w", name, err)
	}
	node.DropExits()
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan struct{})
	f.stops[name] = func() { cancel(); <-done }
	f.running.Go(func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			select {
			case f.failed <- fmt.Errorf("hollow node %s: %w", name, err):
			default:
			}
		}
	})
	return nil
}

// Stop stops the agent of a node and returns when it has ended. The node's
// containers go on.
func (f *Fleet) Stop(name string) error {
	f.mu.Lock()
	stop := f.stops[name]
	delete(f.stops, name)
	f.mu.Unlock()
	if stop == nil {
		return fmt.Errorf("no agent of a hollow node %q runs", name)
	}
	stop()
	return nil
}

func (f *Fleet) agent(name string, node *Node) (*agent.Agent, error) {
	return agent.New(agent.Config{
		NodeName:   name,
		NodeIP:     netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		PodCIDR:    node.addresses,
		DataDir:    f.cfg.DataDir,
		Client:     f.cfg.Client,
		Cache:      f.cfg.Cache,
		Feed:       f.feed,
		Recorder:   f.cfg.Recorder(name),
		Runtime:    node.Runtime(),
		Images:     node.Images(),
		Network:    node.Network(),
		Prober:     node.Prober(),
		NoFiles:    true,
		NodeLabels: map[string]string{v1alpha1.LabelHollow: "true"},
		MaxPods:    f.cfg.MaxPods,
		CPUs:       nodeCPUs,
		Memory:     nodeMemory,
		Version:    f.cfg.Version,
		Kubernetes: f.cfg.Kubernetes,
		Log:        f.cfg.Log,
	})
}
