package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/keyring"
	"windlass.dev/windlass/internal/agent/probe"
)

// ErrImageNotFound is returned by Images.Find for a reference that this node
// does not hold.
var ErrImageNotFound = errors.New("image not found on this node")

// Runtime runs containers that outlive the agent. All methods are idempotent
// and safe for concurrent use on different containers.
type Runtime interface {
	// List returns every container that the runtime has a record of, whatever
	// its state, as found on disk and in the kernel: it is how a restarted
	// agent learns what runs. Half-made containers are cleaned away, not listed.
	List(ctx context.Context) ([]Container, error)

	// Start creates and starts one container and returns once its process runs.
	// On error nothing is left behind.
	Start(ctx context.Context, spec ContainerSpec) (Container, error)

	// Signal sends a signal to the first process of a container. A container
	// that has ended already is no error.
	Signal(ctx context.Context, id string, signal syscall.Signal) error

	// Resize changes what a pod as a whole and some of its running containers, by
	// their IDs, are held to. What grows grows before what shrinks shrinks, so that
	// no container has more than its pod. It returns the IDs of those that have theirs
	// now or have ended. A memory limit below what is in use is an error.
	Resize(ctx context.Context, podUID string, pod PodGroup, grants map[string]Grant) (done []string, err error)

	// Remove kills what is left of a container and deletes its cgroup, mounts
	// and record, but not its log.
	Remove(ctx context.Context, id string) error

	// Exec runs a command inside a running container, until it ends or ctx
	// does, and returns its exit code and its combined output, cut at 10 KiB.
	Exec(ctx context.Context, id string, command []string) (exitCode int, output []byte, err error)

	Streamer

	// Exits delivers the record of each container that ends while the agent
	// runs. There is one channel; it is never closed.
	Exits() <-chan Container
}

// ContainerPhase is where a container is in its life.
type ContainerPhase string

// The phases of a container.
const (
	ContainerRunning ContainerPhase = "Running"
	ContainerExited  ContainerPhase = "Exited"
)

// Container is what a Runtime knows of one attempt at running one container.
type Container struct {
	ID      string
	PodUID  string
	Name    string // the container's name in the pod's spec
	Attempt int    // 0 for the first start, one more for each restart
	ImageID string
	Image   string // the image reference that the pod's spec named
	LogPath string

	VolumeImageIDs []string // the images that its volumes are made of

	Phase      ContainerPhase
	Pid        int // 0 once exited
	StartedAt  time.Time
	FinishedAt time.Time // zero while running
	ExitCode   int
	OOMKilled  bool

	// Granted is what its limits were last made of, as the pod's spec words it; nil
	// if that is not known.
	Granted *corev1.ResourceRequirements

	User *corev1.LinuxContainerUser // as whom its first process began; nil if that is not known

	// EarlierBoot: the machine was started again since this attempt began.
	EarlierBoot bool `json:"-"`

	// StartError is why the attempt came to nothing. Only the agent knows of
	// such attempts: a Runtime keeps no record of what it could not start.
	StartError string

	// Message is what the container has left to say, once it has ended. The agent
	// reads it where it had the container write it.
	Message string
}

// ContainerSpec is everything that a Runtime needs to run one attempt of one
// container. Decisions are made before: a Runtime adds nothing from the pod.
type ContainerSpec struct {
	ID      string
	PodUID  string
	Name    string
	Attempt int
	Image   string // as the pod names it
	ImageID string

	VolumeImageIDs []string // the images that its volumes are made of, for the record

	// Layers are the image's directories for overlay's lowerdir, topmost first.
	Layers []string

	Hostname string
	NetNS    string     // path of the pod's network namespace; empty for the host's
	Users    *UserRange // of its user namespace, to which NetNS belongs; nil for the node's
	PID      Scope      // of the processes that it sees
	PIDOf    string     // the ID of a container of its pod whose processes it sees as well; PID decides where it is empty
	IPC      Scope      // of System V and POSIX inter-process communication, but for /dev/shm, which is a mount
	LogPath  string

	Ports []uint16 // TCP ports that the container declares; the process opens them itself

	Args       []string // never empty
	Env        []string // NAME=value
	WorkingDir string   // absolute
	User       string   // "uid[:gid]" or "name[:group]", resolved in the container's /etc/passwd; empty is root
	Mounts     []Mount

	Resources Resources
	Granted   corev1.ResourceRequirements // what Resources are made of, for the record
	Pod       PodGroup
	Security  Security

	TTY       bool
	Stdin     bool // open for attached clients
	StdinOnce bool // and closed when the first of them has ended its input
}

// Scope is with whom a container shares a namespace.
type Scope string

// The scopes of a namespace.
const (
	ScopeOwn  Scope = ""     // with nobody
	ScopePod  Scope = "pod"  // with the containers of its pod that have this scope
	ScopeHost Scope = "host" // with the node
)

// Mount is a bind mount of a host path into a container.
type Mount struct {
	Source      string
	Destination string
	ReadOnly    bool

	NoExec bool // nothing in it can be run

	// Recursive says whether what is mounted below Source is read-only too; it
	// matters if ReadOnly.
	Recursive corev1.RecursiveReadOnlyMode

	// Propagation is whether mounts that are made later below Source, or below
	// Destination, are seen on the other side; "" is None.
	Propagation corev1.MountPropagationMode
}

// Resources are a container's limits as the kernel takes them.
type Resources struct {
	CPUShares   uint64 // cgroup v1 cpu.shares, converted on v2; 0 is the kernel's default
	CPUQuota    int64  // microseconds of each CPUPeriod; 0 is unlimited
	CPUPeriod   uint64 // microseconds
	MemoryLimit int64  // bytes; 0 is unlimited
	PidsLimit   int64  // 0 is unlimited
	OOMScoreAdj int
}

// PodGroup is the control group around those of a pod's containers: its place,
// and what the pod as a whole is held to.
type PodGroup struct {
	QOS       corev1.PodQOSClass
	Resources Resources // OOMScoreAdj has no meaning here
}

// Security is the part of a container's securityContext that the runtime enforces.
type Security struct {
	Privileged             bool
	ReadOnlyRootFilesystem bool
	NoNewPrivileges        bool
	AddCapabilities        []string // without the CAP_ prefix; "ALL" is allowed
	DropCapabilities       []string
	SeccompUnconfined      bool
	SeccompProfile         []byte // as Docker and Kubernetes write profiles, in JSON; nil is the runtime's default
	AppArmor               *corev1.AppArmorProfile
	UnmaskedProc           bool // nothing of /proc is hidden or read-only
	Sysctls                map[string]string
	SupplementalGroups     []int64
	StrictGroups           bool   // without those that the image's /etc/group gives the user
	RunAsGroup             *int64 // overrides the group of User
}

// ErrNotEnoughFreed is returned by Images.Collect when the disk stays fuller than
// it should be, because what is on it is in use, young or no image.
var ErrNotEnoughFreed = errors.New("Failed to garbage collect required amount of images")

// Image is an image that this node holds.
type Image struct {
	ID     string   // the config's digest, "sha256:…"
	Names  []string // normalised references, "docker.io/library/httpd:2.2.31"
	Digest string   // the manifest's digest, "" when unknown
	Size   int64    // bytes on disk, layers shared with other images included

	Created time.Time // when it was built, as its config tells; zero when that does not

	// Layers are the directories for overlay's lowerdir, topmost first.
	Layers []string

	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
	User       string
	StopSignal string // as in the image's config, "SIGQUIT" or "3"; "" is SIGTERM
}

// Images is the node's image store.
type Images interface {
	// Find returns the image of a reference (a name, a name with a digest, or
	// an image ID), normalised as Docker does; ErrImageNotFound when absent.
	Find(ctx context.Context, ref string) (*Image, error)

	// Pull fetches the image of a reference from its registry. At most one pull
	// of a reference by the same credentials runs at a time; others wait for it
	// and share its result. A few pulls run at the same time, others wait for
	// their turn.
	Pull(ctx context.Context, ref string, options PullOptions) (*Image, error)

	// List returns every image on the node.
	List(ctx context.Context) ([]Image, error)

	// Free deletes images that nobody uses, those that have not been used for the
	// longest time first, until that has freed so many bytes, and returns how many
	// bytes it has freed: less when there are no more such images. Those that came
	// in a moment ago stay. math.MaxInt64 deletes all that nobody uses.
	Free(ctx context.Context, bytes int64) (freed int64, err error)

	// Collect frees the disk down to the low threshold if it is used up to the
	// high one. An error wraps ErrNotEnoughFreed if that could not be reached.
	Collect(ctx context.Context) error
}

// PullOptions says how an image is to be pulled.
type PullOptions struct {
	// Credentials for the registry that the image's name begins with are tried in
	// their order, and after them what the node itself has, or nothing.
	Credentials []keyring.Credential

	// Progress, unless it is nil, is told how far the pull is: once when its turn
	// has come, and from then on as bytes come in. It must return at once.
	Progress func(PullProgress)
}

// PullProgress is how far a pull is. What the image consists of comes out bit
// by bit, so all of it grows. Layers that the node has are done from the start.
type PullProgress struct {
	Layers, LayersDone int
	Bytes, BytesDone   int64 // as they come over the network
}

// PodNetwork is a pod's place in the network.
type PodNetwork struct {
	PodUID string
	NetNS  string // path of the network namespace
	IP     netip.Addr
}

// Network gives each pod a network namespace with an address.
type Network interface {
	// List returns the networks of all pods that have one, from what is on disk.
	List(ctx context.Context) ([]PodNetwork, error)

	// Setup makes a pod's network namespace, connects it and returns it. Called
	// again for the same pod it repairs what is missing (after a reboot, say) and
	// keeps the address. With users, the network namespace is made in a user namespace
	// of theirs, to which it belongs.
	Setup(ctx context.Context, podUID string, users *UserRange) (PodNetwork, error)

	// Teardown removes a pod's network namespace and frees its address.
	Teardown(ctx context.Context, podUID string) error

	// Sockets returns the TCP sockets (IPv4 and IPv6) inside a pod's network
	// namespace, by socket diagnostics: no connection is made. An empty podUID is
	// the node's own namespace.
	Sockets(ctx context.Context, podUID string) ([]Socket, error)

	// Dial connects to a TCP port of a pod's loopback interface, IPv4's before
	// IPv6's, from inside its network namespace.
	Dial(ctx context.Context, podUID string, port uint16) (net.Conn, error)
}

// SocketState is a TCP state (RFC 9293, section 3.3.2), as the kernel groups them.
type SocketState string

// The states that matter to readiness and draining.
const (
	SocketListen      SocketState = "LISTEN"
	SocketSynReceived SocketState = "SYN_RECV"
	SocketEstablished SocketState = "ESTABLISHED"
	SocketCloseWait   SocketState = "CLOSE_WAIT" // the peer has closed, our side has not
	SocketClosing     SocketState = "CLOSING"    // our side has closed, the peer has not confirmed: FIN_WAIT1, LAST_ACK, CLOSING
	SocketOther       SocketState = "OTHER"      // FIN_WAIT2, TIME_WAIT, SYN_SENT, CLOSE
)

// Socket is one TCP socket in a pod's network namespace.
type Socket struct {
	State      SocketState
	LocalAddr  netip.Addr // unspecified for a wildcard listener
	LocalPort  uint16
	RemoteAddr netip.Addr
	RemotePort uint16

	ReceiveQueue uint32 // bytes received that the process has not read; for LISTEN, connections not accepted
	SendQueue    uint32 // bytes written that the peer has not acknowledged

	BytesReceived uint64        // payload bytes, over the socket's life
	BytesSent     uint64        // payload bytes acknowledged by the peer
	LastReceived  time.Duration // since payload was last received; at birth, since then
	LastSent      time.Duration // since payload was last sent; at birth, since then
}

// Prober asks containers how they are.
type Prober interface {
	// Probe does one probe and returns nil for success, else what went wrong; a
	// probe.Unknown if it could not be made. It takes at most the probe's timeout.
	Probe(ctx context.Context, kind ProbeKind, p *corev1.Probe, target probe.Target) error

	// Hook does the request of a lifecycle hook, and returns nil if there was an
	// answer.
	Hook(ctx context.Context, get *corev1.HTTPGetAction, target probe.Target) error
}

// networkProber asks over the network.
type networkProber struct{}

// Probe implements Prober.
func (networkProber) Probe(ctx context.Context, _ ProbeKind, p *corev1.Probe, target probe.Target) error {
	return probe.Run(ctx, p, target)
}

// Hook implements Prober.
func (networkProber) Hook(ctx context.Context, get *corev1.HTTPGetAction, target probe.Target) error {
	return probe.Hook(ctx, get, target)
}
