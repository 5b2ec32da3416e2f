package apiserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/pki"
	"windlass.dev/windlass/internal/store"
)

// Config says what a Server stands on and where it is found.
type Config struct {
	// Store keeps the state. It must be open and stays the caller's to close,
	// after Run has returned.
	Store *store.Store

	// Authority signs the server's certificates and those of its clients.
	Authority *pki.Authority

	// Listener takes TLS connections. Run closes it.
	Listener net.Listener

	// AdvertiseAddress is the address at which pods and other nodes reach
	// this server, on the Listener's port. It is in the serving certificate and
	// behind the Service kubernetes. A loopback address is reachable from this
	// machine only, and the Service then has no endpoint.
	AdvertiseAddress netip.Addr

	// ExtraHosts are more names and addresses for the serving certificate.
	ExtraHosts []string

	// ServiceRange is the range of cluster IPs, 10.43.0.0/16 when zero. Its first
	// address is that of the Service kubernetes.
	ServiceRange netip.Prefix

	// NodePorts is the range of node ports, 30000 to 32767 when zero.
	NodePorts PortRange

	// Cluster is what machines that join are told of the cluster.
	Cluster join.Cluster

	// NodeCertificateLife is how long the certificate of a node that joins is
	// good, a year when zero.
	NodeCertificateLife time.Duration

	// Ready reports why the parts beside the API are not ready yet; /readyz waits for
	// it to return nil. It may be nil.
	Ready func() error

	// DialPod connects to the address of a pod or node for the proxy subresources;
	// nil is directly.
	DialPod func(ctx context.Context, network, address string) (net.Conn, error)

	// Version is reported as gitVersion by /version when the linker has not set one.
	Version string
}

// dialTimeout bounds a connection to a pod.
const dialTimeout = 30 * time.Second

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// The defaults of Config.
var (
	defaultServiceRange = netip.MustParsePrefix("10.43.0.0/16")
	defaultNodePorts    = PortRange{First: 30000, Last: 32767}
)

func (c *Config) complete() error {
	if c.Store == nil || c.Authority == nil || c.Listener == nil {
		return errors.New("apiserver: Store, Authority and Listener are required")
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if !c.ServiceRange.IsValid() {
		c.ServiceRange = defaultServiceRange
	}
	c.ServiceRange = c.ServiceRange.Masked()
	if c.NodePorts == (PortRange{}) {
		c.NodePorts = defaultNodePorts
	}
	if c.DialPod == nil {
		c.DialPod = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if c.NodeCertificateLife == 0 {
		c.NodeCertificateLife = nodeCertificateLife
	}
	if !c.AdvertiseAddress.IsValid() {
		c.AdvertiseAddress = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return nil
}

// port returns the port that the server listens at.
func (c *Config) port() int {
	if address, ok := c.Listener.Addr().(*net.TCPAddr); ok {
		return address.Port
	}
	return 0
}
