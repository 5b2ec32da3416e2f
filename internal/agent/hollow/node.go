package hollow

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/eviction"
)

// Program is how the process of a container behaves.
type Program struct {
	Listens      []uint16      // TCP ports
	ListenAfter  time.Duration // from the start
	NeverListens bool          // and is never ready
	ExitAfter    time.Duration // by itself; 0 is never
	ExitCode     int           // of ExitAfter
	IgnoresStop  bool          // every signal but SIGKILL
	StopTakes    time.Duration // from a stop signal to the end, which is with code 0
	StartTakes   time.Duration // until the process runs
	StartError   error         // it cannot be started
	Exec         func(command []string) (exitCode int, output []byte)
}

// Node is the node.
type Node struct {
	// StartTakes and SetupTakes are how long a container's start and a network's
	// setup take.
	StartTakes, SetupTakes time.Duration

	boundless bool // every image is there, programs are as Behaviour says, calls are not remembered

	mu         sync.Mutex
	images     map[string]agent.Image
	programs   map[string]Program // by image reference
	pulls      map[string]error   // what a pull of a reference answers; nil gives the image
	remote     map[string]agent.Image
	containers map[string]*container
	networks   map[string]agent.PodNetwork
	sockets    map[string][]agent.Socket // connections, by pod UID
	used       map[string]agent.Used     // by each container of a pod, by pod UID
	written    map[string]int64          // likewise
	levels     map[eviction.Signal]eviction.Level
	unready    map[string]bool // readiness probes fail, by pod UID
	addresses  netip.Prefix
	taken      map[netip.Addr]bool
	nextIP     netip.Addr
	exits      chan agent.Container
	ended      []agent.Container // not delivered yet
	telling    bool              // a goroutine delivers them
	calls      []string
}

type container struct {
	agent.Container
	program Program
}

// listening: the program has opened its ports.
func (c *container) listening() bool {
	return c.Phase == agent.ContainerRunning && !c.program.NeverListens && time.Since(c.StartedAt) >= c.program.ListenAfter
}

// New returns an empty node whose pods get addresses from 10.42.0.2 on.
func New() *Node {
	addresses := netip.MustParsePrefix("10.42.0.0/24")
	return &Node{
		images: map[string]agent.Image{}, programs: map[string]Program{}, pulls: map[string]error{}, remote: map[string]agent.Image{},
		containers: map[string]*container{}, networks: map[string]agent.PodNetwork{}, sockets: map[string][]agent.Socket{},
		used: map[string]agent.Used{}, written: map[string]int64{},
		unready: map[string]bool{}, taken: map[netip.Addr]bool{},
		addresses: addresses, nextIP: firstPodAddress(addresses), exits: make(chan agent.Container),
	}
}

// NewBoundless returns a node for any workload: it has every image but those
// whose tag says otherwise, its containers behave as Behaviour tells, and its
// pods get the addresses of a range, without its first two and its last.
func NewBoundless(addresses netip.Prefix) *Node {
	n := New()
	n.boundless, n.addresses, n.nextIP = true, addresses, firstPodAddress(addresses)
	return n
}

// firstPodAddress: the first is the network's, the second the bridge's.
func firstPodAddress(addresses netip.Prefix) netip.Addr {
	return addresses.Masked().Addr().Next().Next()
}

// AddImage puts an image on the node, whose containers behave as program says.
func (n *Node) AddImage(ref string, program Program) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.images[ref] = agent.Image{ID: "sha256:" + ref, Names: []string{ref}, Size: 1 << 20, Cmd: []string{"/" + ref}}
	n.programs[ref] = program
}

// AddRemote makes a pull of ref answer with err, or with an image whose
// containers behave as program says if err is nil.
func (n *Node) AddRemote(ref string, program Program, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.programs[ref], n.pulls[ref] = program, err
	n.remote[ref] = agent.Image{ID: "sha256:" + ref, Names: []string{ref}, Size: 1 << 20, Cmd: []string{"/" + ref}}
}

// End ends a running container from within.
func (n *Node) End(id string, code int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.containers[id]; c != nil {
		n.end(c, code)
	}
}

// Connect sets the connections of a pod, beside the listeners of its programs.
func (n *Node) Connect(podUID string, sockets ...agent.Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets[podUID] = sockets
}

// SetReady makes the readiness probes of a pod's containers fail, or succeed
// again when their programs are ready.
func (n *Node) SetReady(podUID string, ready bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ready {
		delete(n.unready, podUID)
	} else {
		n.unready[podUID] = true
	}
}

// Containers returns all records, by pod, name and attempt.
func (n *Node) Containers() []agent.Container {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list()
}

// Calls returns what has been asked of the node that changes it, in order.
func (n *Node) Calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.calls)
}

// DropExits forgets the exits that no agent has taken, as those that happen
// while none runs are not delivered.
func (n *Node) DropExits() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = nil
	select {
	case <-n.exits:
	default:
	}
}

func (n *Node) called(format string, args ...any) {
	if !n.boundless {
		n.calls = append(n.calls, fmt.Sprintf(format, args...))
	}
}

func (n *Node) list() []agent.Container {
	var list []agent.Container
	for _, c := range n.containers {
		list = append(list, c.Container)
	}
	slices.SortFunc(list, func(a, b agent.Container) int {
		return cmpAll(a.PodUID, b.PodUID, a.Name, b.Name, fmt.Sprintf("%06d", a.Attempt), fmt.Sprintf("%06d", b.Attempt))
	})
	return list
}

func cmpAll(pairs ...string) int {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			if pairs[i] < pairs[i+1] {
				return -1
			}
			return 1
		}
	}
	return 0
}

func (n *Node) end(c *container, code int) {
	if c.Phase == agent.ContainerExited {
		return
	}
	c.Phase, c.ExitCode, c.FinishedAt, c.Pid = agent.ContainerExited, code, time.Now(), 0
	n.ended = append(n.ended, c.Container)
	if !n.telling {
		n.telling = true
		go n.tell()
	}
}

// tell delivers exits until there are none. While no agent runs it waits, with
// at most one that DropExits cannot reach any more.
func (n *Node) tell() {
	for {
		n.mu.Lock()
		if len(n.ended) == 0 {
			n.telling = false
			n.mu.Unlock()
			return
		}
		next := n.ended[0]
		n.ended = n.ended[1:]
		n.mu.Unlock()
		n.exits <- next
	}
}

func (n *Node) endLater(c *container, after time.Duration, code int) {
	time.AfterFunc(after, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.end(c, code)
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

const (
	exitKilled     = 128 + int(syscall.SIGKILL)
	exitNotRunning = 126
)
