package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"k8s.io/component-base/metrics/legacyregistry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/apiserver"
	"windlass.dev/windlass/internal/dns"
	"windlass.dev/windlass/internal/event"
	"windlass.dev/windlass/internal/image"
	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/network"
	"windlass.dev/windlass/internal/oci"
	"windlass.dev/windlass/internal/overlay"
	"windlass.dev/windlass/internal/pki"
	"windlass.dev/windlass/internal/proxy"
)

// machine is this machine as a node of a cluster: what runs containers, keeps
// images and connects pods, and the parts that live the node's life. A server and
// an agent are the same machine but for how they reach the API.
type machine struct {
	NodeOptions              // complete, with the node's address
	cluster     join.Cluster // that it is a node of
	podRange    netip.Prefix // its share of the cluster's

	stages  *agent.Stages // of the starts of pods
	runtime *oci.Runtime
	images  *image.Store
	network *network.Network
	pods    client.Reader // of the cluster's pods, once the parts are made
}

// identity is how a node proves who it is.
type identity struct {
	certificate func() *tls.Certificate // of the agent as a server, of now
	authority   *x509.CertPool          // of the cluster
	ofServer    bool                    // the node's API is in this process: it makes the Service kube-dns, and the cache has everything
}

// open makes the machine's runtime, images and network. What it has made when it
// fails close lets go of.
func (m *machine) open(ctx context.Context) (err error) {
	m.stages = agent.NewStages()
	if m.runtime, err = oci.New(oci.Config{DataDir: m.DataDir, RuntimePath: m.Runtime, Logs: m.Logs, Stages: m.stages, Log: m.Log}); err != nil {
		return err
	}
	if m.images, err = image.New(image.Config{DataDir: m.DataDir, Thresholds: m.ImageGC, InUse: m.imagesInUse, Log: m.Log}); err != nil {
		return err
	}
	m.network, err = network.New(network.Config{
		DataDir:       m.DataDir,
		Bridge:        bridge,
		PodRange:      m.podRange,
		AllPods:       m.cluster.PodRange,
		Underlay:      m.NodeIP,
		ServiceRange:  m.cluster.ServiceRange,
		ContainerPids: m.runtime.Pids,
		Log:           m.Log,
	})
	if err != nil {
		return err
	}
	return m.network.EnsureHost(ctx)
}

// close lets go of what open opened.
func (m *machine) close() {
	if m.images == nil {
		return
	}
	if err := m.images.Close(); err != nil {
		m.Log.Warn("image store not closed", "error", err)
	}
}

// parts makes the node's parts, which know the API by its client and cache.
// Events are written until their context ends.
func (m *machine) parts(events context.Context, api cluster.Cluster, id identity) ([]part, error) {
	m.pods = api.GetCache()
	agent, err := m.agent(events, api, id)
	if err != nil {
		return nil, err
	}
	proxy, err := m.proxy(api)
	if err != nil {
		return nil, err
	}
	names, err := m.dns(api, id)
	if err != nil {
		return nil, err
	}
	others := overlay.New(overlay.Config{NodeName: m.NodeName, PodRange: m.podRange, Cache: api.GetCache(), Links: m.network, Log: m.Log})
	return []part{
		{"image service", m.serveImages},
		{"containers", m.runtime.Run},
		{"overlay", others.Run},
		{"service proxy", measured(proxy)},
		{"DNS", measured(names)},
		{"agent", measured(agent)},
	}, nil
}

func (m *machine) agent(events context.Context, api cluster.Cluster, id identity) (*agent.Agent, error) {
	recorder, err := event.NewRecorder(events, api.GetConfig(), api.GetScheme(), "kubelet", m.NodeName)
	if err != nil {
		return nil, fmt.Errorf("event recorder of the agent: %w", err)
	}
	listener, err := net.Listen("tcp", m.agentAddress())
	if err != nil {
		return nil, fmt.Errorf("the agent's address %s: %w (give another --agent-port)", m.agentAddress(), err)
	}
	direct, err := client.NewWithWatch(api.GetConfig(), client.Options{Scheme: api.GetScheme(), Mapper: api.GetRESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("client of the agent: %w", err)
	}
	return agent.New(agent.Config{
		NodeName:   m.NodeName,
		NodeIP:     m.NodeIP,
		Lease:      m.Lease,
		DataDir:    m.DataDir,
		Client:     api.GetClient(),
		Direct:     direct,
		Cache:      api.GetCache(),
		Recorder:   recorder,
		Runtime:    m.runtime,
		Images:     m.images,
		Network:    m.network,
		Meter:      m.runtime,
		Listener:   listener,
		TLS:        agentTLS(id),
		Stages:     m.stages,
		Metrics:    legacyregistry.Handler(),
		NodeLabels: m.NodeLabels,
		Policy:     m.Policy,
		Version:    m.Version,
		Kubernetes: apiserver.Version(),
		ClusterDNS: []netip.Addr{m.cluster.DNS},
		Domain:     m.cluster.Domain,
		Log:        m.Log,
	})
}

// agentTLS has the agent serve the API server and nobody else: other bearers of
// the authority's certificates, the other nodes among them, have no business
// inside this node's pods.
func agentTLS(id identity) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientCAs:      id.authority,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.certificate(), nil },
		VerifyConnection: func(state tls.ConnectionState) error {
			client := state.PeerCertificates[0].Subject
			if client.CommonName != pki.UserServer && !slices.Contains(client.Organization, pki.GroupMasters) {
				return fmt.Errorf("%s may not ask the agent: only the API server may", client.CommonName)
			}
			return nil
		},
	}
}

func (m *machine) dns(api cluster.Cluster, id identity) (*dns.Server, error) {
	return dns.New(dns.Config{
		NodeName:     m.NodeName,
		Address:      m.gateway(),
		ClusterIP:    m.cluster.DNS,
		PodRange:     m.cluster.PodRange,
		ServiceRange: m.cluster.ServiceRange,
		Client:       api.GetClient(),
		Cache:        api.GetCache(),
		Domain:       m.cluster.Domain,
		EndpointOnly: !id.ofServer,
		Log:          m.Log,
	})
}

func (m *machine) proxy(api cluster.Cluster) (*proxy.Proxy, error) {
	return proxy.New(proxy.Config{
		NodeName:     m.NodeName,
		PodRange:     m.cluster.PodRange,
		ServiceRange: m.cluster.ServiceRange,
		Bridge:       bridge,
		Client:       api.GetClient(),
		Cache:        api.GetCache(),
		Log:          m.Log,
	})
}

// serveImages answers `windlass image` on a socket in the data directory.
func (m *machine) serveImages(ctx context.Context) error {
	listener, err := image.Listen(m.DataDir)
	if err != nil {
		return err
	}
	images := &http.Server{Handler: m.images.Handler(), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = images.Close() })
	if err := images.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// imagesInUse returns the images that must stay, each with who uses it.
func (m *machine) imagesInUse(ctx context.Context) (map[string][]string, error) {
	return agent.ImagesInUse(ctx, m.runtime, m.pods, m.NodeName)
}

// gateway is the address of the node's bridge.
func (m *machine) gateway() netip.Addr { return m.podRange.Masked().Addr().Next() }

// agentAddress is where the agent serves.
func (m *machine) agentAddress() string {
	return net.JoinHostPort(m.NodeIP.String(), strconv.Itoa(m.AgentPort))
}
