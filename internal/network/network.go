package network

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"windlass.dev/windlass/internal/agent"
)

// Config says where the pod network of a node is.
type Config struct {
	DataDir      string       // directory of the node's data
	Bridge       string       // name of the bridge, "windlass0"
	PodRange     netip.Prefix // this node's share of the pod addresses; its first address is the bridge's
	AllPods      netip.Prefix // addresses of all nodes' pods, which must not leave but to a node; invalid: only this node's
	Underlay     netip.Addr   // this node's address, by which others reach it; invalid, or not a link's: there are no others
	ServiceRange netip.Prefix // addresses of Services, which must not leave the node

	// ContainerPids returns the processes of a pod's running containers, whose
	// namespace is found through them when the file that held it is gone. It
	// may be nil.
	ContainerPids func(podUID string) []int

	Log *slog.Logger // nil is slog's default
}

// Network is the pod network of this node; it implements agent.Network.
type Network struct {
	cfg       Config
	addresses *addresses

	mu   sync.Mutex
	pods map[string]*podState
}

var _ agent.Network = (*Network)(nil)

// podState serialises what is done to one pod's network and keeps its socket
// for diagnostics.
type podState struct {
	mu   sync.Mutex
	diag *diagnostics
}

// New returns the network with the addresses that are on record. It changes
// nothing in the kernel; EnsureHost does.
func New(cfg Config) (*Network, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	for _, dir := range []string{namespaceDir(cfg.DataDir), podDir(cfg.DataDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the network's directory: %w", err)
		}
	}
	addresses, err := loadAddresses(podDir(cfg.DataDir), cfg.PodRange)
	if err != nil {
		return nil, err
	}
	return &Network{cfg: cfg, addresses: addresses, pods: map[string]*podState{}}, nil
}

func namespaceDir(data string) string { return filepath.Join(data, "run", "netns") }
func podDir(data string) string       { return filepath.Join(data, "network", "pods") }

// EnsureHost makes the bridge, the routes and the kernel settings that pods
// need, or mends them. It is idempotent.
func (n *Network) EnsureHost(context.Context) error {
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	bridge, err := ensureBridge(n.cfg.Bridge, n.addresses.gateway, n.cfg.PodRange.Bits(), n.podMTU())
	if err != nil {
		return fmt.Errorf("set up the bridge %s: %w", n.cfg.Bridge, err)
	}
	if err := ensureRoutes(bridge, n.cfg.ServiceRange); err != nil {
		return fmt.Errorf("route the service range %s: %w", n.cfg.ServiceRange, err)
	}
	if err := ensureRefusal(n.cfg.AllPods); err != nil {
		return fmt.Errorf("route the pod range %s: %w", n.cfg.AllPods, err)
	}
	return setSysctls(hostSysctls(n.cfg.Bridge))
}

// List implements agent.Network.
func (n *Network) List(context.Context) ([]agent.PodNetwork, error) {
	var list []agent.PodNetwork
	for uid, ip := range n.addresses.all() {
		list = append(list, n.describe(uid, ip))
	}
	return list, nil
}

func (n *Network) describe(uid string, ip netip.Addr) agent.PodNetwork {
	return agent.PodNetwork{PodUID: uid, NetNS: n.namespacePath(uid), IP: ip}
}

func (n *Network) namespacePath(uid string) string {
	return filepath.Join(namespaceDir(n.cfg.DataDir), uid)
}

// Setup implements agent.Network.
func (n *Network) Setup(_ context.Context, podUID string, users *agent.UserRange) (agent.PodNetwork, error) {
	if !validUID.MatchString(podUID) {
		return agent.PodNetwork{}, fmt.Errorf("pod uid %q: must match %s", podUID, validUID)
	}
	began := time.Now()
	pod := n.pod(podUID)
	pod.mu.Lock()
	defer pod.mu.Unlock()
	known := n.addresses.has(podUID)
	ip, err := n.addresses.take(podUID)
	if err != nil {
		return agent.PodNetwork{}, err
	}
	network := n.describe(podUID, ip)
	if err := n.ensureNamespace(podUID, pod, known, users); err != nil {
		return agent.PodNetwork{}, fmt.Errorf("network namespace of pod %s: %w", podUID, err)
	}
	made := time.Now()
	if err := connect(network, linkName(podUID), n.cfg.Bridge, n.addresses.gateway); err != nil {
		return agent.PodNetwork{}, fmt.Errorf("connect pod %s to %s: %w", podUID, n.cfg.Bridge, err)
	}
	n.cfg.Log.Debug("Pod network is set up", "pod", podUID, "ip", ip,
		"total", time.Since(began), "namespace", made.Sub(began), "connect", time.Since(made))
	return network, nil
}

// validUID is what may name a pod: it becomes a file name.
var validUID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// ensureNamespace leaves a live namespace at the pod's path: the one that is
// there, the one that its containers are in, or a new one. A pod without an
// address before has no containers to ask.
func (n *Network) ensureNamespace(podUID string, pod *podState, known bool, users *agent.UserRange) error {
	path := n.namespacePath(podUID)
	if isNamespace(path) {
		return nil
	}
	pod.forget()
	if known && n.findNamespace(podUID) {
		return nil
	}
	if users != nil {
		return makeOwnedNamespace(path, *users)
	}
	return makeNamespace(path)
}

// findNamespace reports whether the pod's namespace is at its path, after
// mounting it there from its containers if need be: in another mount namespace
// than the one it was made in, they alone lead to it.
func (n *Network) findNamespace(podUID string) bool {
	path := n.namespacePath(podUID)
	if isNamespace(path) {
		return true
	}
	if n.cfg.ContainerPids == nil {
		return false
	}
	for _, pid := range n.cfg.ContainerPids(podUID) {
		if err := bindNamespace(fmt.Sprintf("/proc/%d/ns/net", pid), path); err == nil {
			return true
		}
	}
	return false
}

// Teardown implements agent.Network.
func (n *Network) Teardown(_ context.Context, podUID string) error {
	pod := n.pod(podUID)
	pod.mu.Lock()
	defer pod.mu.Unlock()
	pod.forget()
	if err := removeLink(linkName(podUID)); err != nil {
		return fmt.Errorf("disconnect pod %s: %w", podUID, err)
	}
	if err := removeNamespace(n.namespacePath(podUID)); err != nil {
		return fmt.Errorf("remove the network namespace of pod %s: %w", podUID, err)
	}
	if err := n.addresses.release(podUID); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.pods, podUID)
	n.mu.Unlock()
	return nil
}

// ownNamespace is this process's network namespace, whatever other threads have entered.
const ownNamespace = "/proc/thread-self/ns/net"

// Sockets implements agent.Network. A pod whose namespace is gone with its last
// process has no sockets.
func (n *Network) Sockets(_ context.Context, podUID string) ([]agent.Socket, error) {
	pod := n.pod(podUID)
	pod.mu.Lock()
	defer pod.mu.Unlock()
	if pod.diag == nil {
		path := ownNamespace
		if podUID != "" {
			if !n.findNamespace(podUID) && n.addresses.has(podUID) {
				return nil, nil
			}
			path = n.namespacePath(podUID)
		}
		diag, err := openDiagnostics(path) // where there is none, this says so
		if err != nil {
			return nil, fmt.Errorf("socket diagnostics of pod %s: %w", podUID, err)
		}
		pod.diag = diag
	}
	sockets, err := pod.diag.sockets()
	if err != nil {
		pod.forget()
		return nil, fmt.Errorf("socket diagnostics of pod %s: %w", podUID, err)
	}
	return sockets, nil
}

func (n *Network) pod(uid string) *podState {
	n.mu.Lock()
	defer n.mu.Unlock()
	pod, ok := n.pods[uid]
	if !ok {
		pod = &podState{}
		n.pods[uid] = pod
	}
	return pod
}

// forget closes the pod's diagnostics socket; its mutex is held.
func (p *podState) forget() {
	if p.diag != nil {
		p.diag.close()
		p.diag = nil
	}
}
