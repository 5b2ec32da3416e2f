package server

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/eviction"
	"windlass.dev/windlass/internal/agent/hollow"
	"windlass.dev/windlass/internal/image"
	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/oci"
)

// NodeOptions are what a user can set about a machine that is a node.
type NodeOptions struct {
	DataDir    string            // everything is kept here; made when it is not there
	NodeName   string            // "" is the host's name in lower case
	NodeIP     netip.Addr        // invalid means: find it
	NodeLabels map[string]string // beside those that every node has
	AgentPort  int               // where the agent serves the API server
	Runtime    string            // OCI runtime, a name or a path
	Policy     Policy            // how this machine husbands what it has
	Lease      time.Duration     // how long this node lives after it was last heard; 0 is 40 s
	Logs       LogLimits         // how much of containers' logs is kept; zero is DefaultLogLimits
	ImageGC    *image.Thresholds // when unused images go; nil is image.DefaultThresholds
	Version    string            // of Windlass, told in the node's info
	Log        *slog.Logger
}

// Options are what a user can set about a server.
type Options struct {
	NodeOptions
	Listen              string        // address of the API, host:port
	PodRange            netip.Prefix  // addresses for pods; this node has the first /24 of it
	ServiceRange        netip.Prefix  // addresses for Services
	HollowNodes         int           // so many nodes without containers in place of this machine; 0 is the machine
	NodeCertificateLife time.Duration // of nodes that join; 0 is a year
}

// AgentOptions are what a user can set about a machine that joins a cluster.
type AgentOptions struct {
	NodeOptions
	Server string // URL of the API server; "" where the machine has joined before
	Token  string // to join with; not needed where the machine has joined before
}

// Policy is how a node husbands what it has.
type Policy = agent.Policy

// LogLimits say how much of a container's log is kept.
type LogLimits = oci.LogLimits

// DefaultLogLimits are those of a node that is told none.
var DefaultLogLimits = oci.DefaultLogLimits

// DefaultEviction are the thresholds of a node that is told none.
const DefaultEviction = eviction.Default

// ParseEviction reads thresholds such as DefaultEviction.
func ParseEviction(text string) ([]eviction.Threshold, error) { return eviction.Parse(text) }

// WithGrace gives thresholds the time for which they may be met, read from a text
// such as memory.available=1m30s.
func WithGrace(list []eviction.Threshold, text string) ([]eviction.Threshold, error) {
	return eviction.WithGrace(list, text)
}

// bridge is the name of the interface that joins a node's pods.
const bridge = "windlass0"

// clusterDomain is what the names of Services end in.
const clusterDomain = "cluster.local"

// nodeBits is the length of one node's share of the pod range.
const nodeBits = 24

// complete fills in what was left open and refuses what cannot work.
func (o *NodeOptions) complete() error {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	var err error
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return fmt.Errorf("--data-dir %q: %w", o.DataDir, err)
	}
	if o.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host's name: %w (give one with --node-name)", err)
		}
		o.NodeName = strings.ToLower(host)
	}
	if problems := validation.IsDNS1123Subdomain(o.NodeName); len(problems) > 0 {
		return fmt.Errorf("node name %q: %s (give one with --node-name)", o.NodeName, strings.Join(problems, "; "))
	}
	for name, value := range o.NodeLabels {
		problems := append(validation.IsQualifiedName(name), validation.IsValidLabelValue(value)...)
		if len(problems) > 0 {
			return fmt.Errorf("--node-label %s=%s: %s", name, value, strings.Join(problems, "; "))
		}
	}
	if o.ImageGC != nil {
		return o.ImageGC.Check()
	}
	return nil
}

// complete fills in what was left open and refuses what cannot work.
func (o *Options) complete() error {
	if err := o.NodeOptions.complete(); err != nil {
		return err
	}
	if o.PodRange.Overlaps(o.ServiceRange) {
		return fmt.Errorf("--pod-range %s and --service-range %s overlap: choose two that do not", o.PodRange, o.ServiceRange)
	}
	if o.PodRange.Bits() > nodeBits {
		return fmt.Errorf("--pod-range %s is smaller than one node's share: give a /%d or larger", o.PodRange, nodeBits)
	}
	if most := hollow.MostNodes(o.PodRange); o.HollowNodes < 0 || o.HollowNodes > most {
		return fmt.Errorf("--hollow-nodes %d: give a number from 1 to %d, as many as --pod-range %s has room for", o.HollowNodes, most, o.PodRange)
	}
	if o.ServiceRange.Bits() > 28 {
		return fmt.Errorf("--service-range %s is too small: give a /28 or larger", o.ServiceRange)
	}
	return nil
}

// cluster is what the server tells its nodes of the cluster.
func (o *Options) cluster() join.Cluster {
	return join.Cluster{PodRange: o.PodRange, ServiceRange: o.ServiceRange, DNS: o.clusterDNS(), Domain: clusterDomain}
}

// podRanges is how the pod range is shared out. Hollow nodes bring theirs.
func (o *Options) podRanges() PodRanges {
	if o.HollowNodes > 0 {
		return PodRanges{}
	}
	return PodRanges{Within: o.PodRange, Bits: nodeBits, Reserved: map[string]netip.Prefix{o.NodeName: o.nodeRange()}}
}

// nodeRange is the share of the pod range of the server's own node.
func (o *Options) nodeRange() netip.Prefix { return netip.PrefixFrom(o.PodRange.Addr(), nodeBits) }

// clusterDNS is the address that pods ask for names: the tenth of the range.
func (o *Options) clusterDNS() netip.Addr {
	address := o.ServiceRange.Addr()
	for range 10 {
		address = address.Next()
	}
	return address
}
