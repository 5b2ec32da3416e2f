package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/apiserver"
	"windlass.dev/windlass/internal/pki"
	"windlass.dev/windlass/internal/store"
)

// Run runs a server until ctx ends or a part fails. Containers stay when it
// returns; a later Run on the same directory takes them over.
func Run(ctx context.Context, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	return o.begin(o.HollowNodes == 0, func() error {
		n, err := newNode(ctx, o)
		if err != nil {
			return err
		}
		defer n.close()
		return n.run(ctx)
	})
}

// node is everything that one server consists of.
type node struct {
	Options
	began     time.Time
	listener  net.Listener
	store     *store.Store
	authority *pki.Authority
	api       *apiserver.Server
	machine   *machine // nil with hollow nodes
	progress  progress
}

// newNode makes the parts, from the ground up. What needs closing when a later
// one fails is closed.
func newNode(ctx context.Context, o Options) (n *node, err error) {
	n = &node{Options: o, began: time.Now()}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.listener, err = listen(o.Listen); err != nil {
		return n, err
	}
	if o.HollowNodes == 0 {
		if err = n.openMachine(ctx); err != nil {
			return n, err
		}
	}
	if n.authority, err = pki.Open(filepath.Join(o.DataDir, "pki")); err != nil {
		return n, err
	}
	if n.store, err = store.Open(ctx, store.Config{Dir: filepath.Join(o.DataDir, "etcd"), Log: o.Log}); err != nil {
		return n, err
	}
	n.api, err = apiserver.New(ctx, apiserver.Config{
		Store:            n.store,
		Authority:        n.authority,
		Listener:         n.listener,
		AdvertiseAddress: n.advertised(),
		ServiceRange:     o.ServiceRange,
		Cluster:          o.cluster(),
		Ready:            n.progress.ready,

		NodeCertificateLife: o.NodeCertificateLife,
	})
	if err != nil {
		return n, err
	}
	return n, n.writeKubeconfig()
}

// openMachine makes this machine a node, after finding its address.
func (n *node) openMachine(ctx context.Context) (err error) {
	m := &machine{NodeOptions: n.NodeOptions, cluster: n.cluster(), podRange: n.nodeRange()}
	if !m.NodeIP.IsValid() {
		if m.NodeIP, err = nodeAddress(m.gateway()); err != nil {
			return err
		}
	}
	n.machine = m
	return m.open(ctx)
}

// close lets go of what newNode opened, in reverse.
func (n *node) close() {
	if n.machine != nil {
		n.machine.close()
	}
	if n.store != nil {
		n.store.Close()
	}
	if n.listener != nil {
		_ = n.listener.Close() // the API server has closed it when it ran
	}
}

// listen opens the address of the API.
func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("the API's address %s is in use by another process: end that one, or give another --listen", address)
	}
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", address, err)
	}
	return listener, nil
}

// advertised is the address at which pods reach the API.
func (n *node) advertised() netip.Addr {
	if ip := n.listenIP(); ip.IsValid() && !ip.IsUnspecified() {
		return ip
	}
	if n.machine == nil {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return n.machine.NodeIP
}

func (n *node) listenIP() netip.Addr {
	address, ok := n.listener.Addr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return address.AddrPort().Addr().Unmap()
}

// writeKubeconfig writes the admin's kubeconfig, for use on this machine.
func (n *node) writeKubeconfig() error {
	host := "127.0.0.1"
	if ip := n.listenIP(); ip.IsValid() && !ip.IsUnspecified() {
		host = ip.String()
	}
	_, port, err := net.SplitHostPort(n.listener.Addr().String())
	if err != nil {
		return fmt.Errorf("the API's address: %w", err)
	}
	admin, err := n.authority.Client("admin", pki.UserAdmin, pki.GroupMasters)
	if err != nil {
		return err
	}
	return n.authority.WriteKubeconfig(filepath.Join(n.DataDir, "kubeconfig"), "https://"+net.JoinHostPort(host, port), pki.UserAdmin, admin)
}

// keepKubeconfig writes the admin's kubeconfig anew before its certificate ends, until
// ctx does.
func (n *node) keepKubeconfig(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(24 * time.Hour):
		}
		if err := n.writeKubeconfig(); err != nil {
			n.Log.Warn("the kubeconfig is not written; will try again", "error", err)
		}
	}
}
