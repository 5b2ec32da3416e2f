package overlay

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// checkEvery bounds how long damage by others may go unseen.
	checkEvery = 30 * time.Second

	// tryAgain is the wait after an error.
	tryAgain = time.Second
)

// Links is the network that packets to other nodes' pods take.
type Links interface {
	// SetPeers makes these nodes' pods reachable, and those of no others.
	SetPeers(peers []Peer) error
}

// Informers is what an Overlay needs of a cache.Cache.
type Informers interface {
	GetInformer(ctx context.Context, obj client.Object, opts ...cache.InformerGetOption) (cache.Informer, error)
	List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error
}

// Config is all that an Overlay needs.
type Config struct {
	NodeName string
	PodRange netip.Prefix // of this node, as its network has it
	Cache    Informers    // a cache.Cache whose Nodes are whole
	Links    Links
	Log      *slog.Logger // default: slog.Default
}

// ErrOtherRange says that this node has been given another pod range than its
// network has.
type ErrOtherRange struct{ Has, Given netip.Prefix }

// Error implements error.
func (e ErrOtherRange) Error() string {
	return fmt.Sprintf("this node's pod range is %s now and was %s", e.Given, e.Has)
}

// Overlay keeps the network's peers equal to the API's nodes.
type Overlay struct {
	config  Config
	changed chan struct{}
}

// New returns an Overlay that does nothing before Run.
func New(config Config) *Overlay {
	if config.Log == nil {
		config.Log = slog.Default()
	}
	config.Log = config.Log.With("part", "overlay")
	return &Overlay{config: config, changed: make(chan struct{}, 1)}
}

// Run works until ctx ends, and leaves the network as it is. It fails with
// ErrOtherRange when the node has been given another pod range.
func (o *Overlay) Run(ctx context.Context) error {
	informer, err := o.config.Cache.GetInformer(ctx, &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	wake := func() {
		select {
		case o.changed <- struct{}{}:
		default:
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake() },
		UpdateFunc: func(old, now any) {
			if a, b := old.(*corev1.Node), now.(*corev1.Node); !slices.Equal(Peers("", []*corev1.Node{a}), Peers("", []*corev1.Node{b})) {
				wake()
			}
		},
		DeleteFunc: func(any) { wake() },
	})
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	defer func() { _ = informer.RemoveEventHandler(registration) }()
	select {
	case <-registration.HasSyncedChecker().Done():
	case <-ctx.Done():
		return nil
	}
	return o.keep(ctx)
}

func (o *Overlay) keep(ctx context.Context) error {
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		var again <-chan time.Time
		if err := o.apply(ctx); err != nil {
			if other, ok := err.(ErrOtherRange); ok { //nolint:errorlint // made here
				return other
			}
			o.config.Log.Error("other nodes' pods may be out of reach; will try again", "error", err, "after", tryAgain)
			again = time.After(tryAgain)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.changed:
		case <-check.C:
		case <-again:
		}
	}
}

func (o *Overlay) apply(ctx context.Context) error {
	var list corev1.NodeList
	if err := o.config.Cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	var nodes []*corev1.Node
	for i := range list.Items {
		node := &list.Items[i]
		nodes = append(nodes, node)
		if node.Name != o.config.NodeName || node.Spec.PodCIDR == "" {
			continue
		}
		if given, err := netip.ParsePrefix(node.Spec.PodCIDR); err == nil && given.Masked() != o.config.PodRange.Masked() {
			return ErrOtherRange{Has: o.config.PodRange, Given: given}
		}
	}
	return o.config.Links.SetPeers(Peers(o.config.NodeName, nodes))
}
