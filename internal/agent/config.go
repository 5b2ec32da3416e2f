package agent

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/eviction"
)

// Config is what an Agent needs. All fields without a default are required.
type Config struct {
	NodeName string
	NodeIP   netip.Addr
	PodCIDR  netip.Prefix // that the node brings along; invalid: its range is given to it
	DataDir  string       // pods' directories and logs are kept below it

	// Client reads and writes the API. Cache has informers for pods, services,
	// endpoint slices, leases and nodes; somebody else starts it. Both may be of
	// the whole cluster: the agent picks what concerns its node. Agents of one
	// process share a Feed of the Cache.
	//
	// Direct reads and watches the API past the Cache: the ConfigMaps and Secrets
	// that volumes of the node's pods are made of, by name. Without it they do not
	// follow changes; Client is taken if it can watch.
	Client   client.Client
	Direct   client.WithWatch
	Cache    cache.Cache
	Feed     *Feed // default: one of its own
	Recorder record.EventRecorder

	Runtime Runtime
	Images  Images
	Network Network
	Meter   Meter                                                   // default: none, and what is used is not told
	Levels  func(Usage) (map[eviction.Signal]eviction.Level, error) // what is left of the node; default: as the kernel tells
	Prober  Prober                                                  // default: over the network, and by Runtime.Exec

	// NoFiles is for nodes whose containers run no process that could read them:
	// what volumes refer to has to be there, but no file is made for a pod.
	NoFiles bool

	Stages   *Stages      // of the starts of pods; default: its own
	Metrics  http.Handler // of this process, for the API server at /metrics of Listener; nil serves none
	Listener net.Listener // for the API server: logs and connections to pods; nil serves none
	TLS      *tls.Config  // for Listener; it has to require client certificates

	NodeLabels map[string]string // beside those that every node has
	MaxPods    int               // default 250
	Lease      time.Duration     // how long the node lives after it was last heard, in whole seconds; default 40 s
	Policy     Policy            // how the node husbands what it has
	CPUs       int               // that the node tells it has; default: those of the machine
	Memory     int64             // in bytes, likewise
	Version    string            // of Windlass, told in the node's info as the runtime's; default "dev"
	Kubernetes string            // version that the node tells as its kubelet's; default Version
	ClusterDNS []netip.Addr      // for /etc/resolv.conf; none: pods have the node's
	Domain     string            // of the cluster; default "cluster.local"
	Log        *slog.Logger      // default slog.Default()
}

func (c Config) complete() (Config, error) {
	var missing []error
	for _, need := range []struct {
		name string
		is   bool
	}{
		{"NodeName", c.NodeName != ""}, {"NodeIP", c.NodeIP.IsValid()}, {"DataDir", c.DataDir != ""},
		{"Client", c.Client != nil}, {"Cache", c.Cache != nil}, {"Recorder", c.Recorder != nil},
		{"Runtime", c.Runtime != nil}, {"Images", c.Images != nil}, {"Network", c.Network != nil},
		{"TLS", c.Listener == nil || c.TLS != nil},
	} {
		if !need.is {
			missing = append(missing, errors.New("agent: Config."+need.name+" is required"))
		}
	}
	if c.Feed == nil {
		c.Feed = NewFeed(c.Cache)
	}
	if c.Direct == nil {
		c.Direct, _ = c.Client.(client.WithWatch)
	}
	if c.Prober == nil {
		c.Prober = networkProber{}
	}
	if c.Stages == nil {
		c.Stages = NewStages()
	}
	if c.Lease == 0 {
		c.Lease = 40 * time.Second
	}
	if c.MaxPods == 0 {
		c.MaxPods = 250
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Kubernetes == "" {
		c.Kubernetes = c.Version
	}
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(missing...)
}
