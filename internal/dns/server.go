package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	port            = 53
	mostConnections = 256 // by TCP at a time
	idleTimeout     = 10 * time.Second
	endTimeout      = time.Second // for answers under way when the server ends
)

// Informers is what a Server needs of a cache.Cache.
type Informers interface {
	GetInformer(ctx context.Context, obj client.Object, opts ...cache.InformerGetOption) (cache.Informer, error)
}

// Config is all that a Server needs. The fields without a remark are required.
type Config struct {
	NodeName     string
	Address      netip.Addr   // of this node, that its pods reach: where the server listens
	ClusterIP    netip.Addr   // of the Service kube-dns
	PodRange     netip.Prefix // IPv4
	ServiceRange netip.Prefix // IPv4
	Client       client.Client
	Cache        Informers // a cache.Cache whose Services and EndpointSlices are whole

	// EndpointOnly leaves the Service kube-dns to another node: this one is only an
	// endpoint of it, once it is there.
	EndpointOnly bool

	Domain    string       // of the cluster; default "cluster.local"
	Resolvers string       // path of a resolv.conf; default /etc/resolv.conf
	Log       *slog.Logger // default slog.Default
}

// Server answers the DNS questions of a node's pods.
type Server struct {
	config    Config
	udp       net.PacketConn
	tcp       net.Listener
	forwarder *forwarder
	publisher *publisher
	metrics   metrics

	mu   sync.RWMutex // guards zone
	zone *Zone
}

// New returns a Server that does not run yet. It takes its ports: queries that
// come before Run wait there. When another process has port 53 of the address,
// a free one is taken: pods ask by the Service kube-dns, which leads there.
func New(config Config) (*Server, error) {
	s := newServer(config)
	err := s.listen(port)
	if errors.Is(err, syscall.EADDRINUSE) {
		s.config.Log.Warn("port 53 is another process's: DNS listens at a free port, which the Service kube-dns leads to; "+
			"to have port 53, let that process listen at its own addresses only and start again", "address", config.Address.String())
		err = s.listen(0)
	}
	if err != nil {
		return nil, fmt.Errorf("DNS at %s: %w", config.Address, err)
	}
	s.publisher = newPublisher(s.config, portOf(s.udp.LocalAddr()), portOf(s.tcp.Addr()))
	return s, nil
}

// newServer returns a Server that has no ports yet.
func newServer(config Config) *Server {
	if config.Domain == "" {
		config.Domain = "cluster.local"
	}
	if config.Resolvers == "" {
		config.Resolvers = "/etc/resolv.conf"
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	config.Log = config.Log.With("part", "dns")
	return &Server{
		config: config,
		forwarder: newForwarder(&resolvers{path: config.Resolvers, port: strconv.Itoa(port),
			skip: []netip.Addr{config.Address, config.ClusterIP}}),
		metrics: newMetrics(),
		zone:    newZone(config.Domain, config.PodRange, config.ServiceRange),
	}
}

// listen takes a port by UDP and by TCP, or neither; 0 is any.
func (s *Server) listen(port uint16) error {
	at := net.JoinHostPort(s.config.Address.String(), strconv.Itoa(int(port)))
	udp, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return errors.Join(err, udp.Close())
	}
	s.udp, s.tcp = udp, netutil.LimitListener(tcp, mostConnections)
	return nil
}

func portOf(address net.Addr) int32 {
	return int32(netip.MustParseAddrPort(address.String()).Port())
}

// Run answers until ctx ends. It begins once all Services are known.
func (s *Server) Run(ctx context.Context) error {
	defer s.udp.Close()
	defer s.tcp.Close()
	if err := s.watch(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("DNS: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { s.publisher.run(ctx); return nil })
	group.Go(func() error { return s.answer(ctx) })
	return group.Wait()
}

// answer answers queries until ctx ends.
func (s *Server) answer(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) { s.serve(ctx, w, query) })
	for _, transport := range []*dns.Server{{PacketConn: s.udp}, {Listener: s.tcp}} {
		transport.Handler = handler
		transport.UDPSize = udpSize
		transport.IdleTimeout = func() time.Duration { return idleTimeout }
		group.Go(func() error { return serve(ctx, transport) })
	}
	return group.Wait()
}

// serve runs one transport until ctx ends.
func serve(ctx context.Context, transport *dns.Server) error {
	started := make(chan struct{})
	transport.NotifyStartedFunc = func() { close(started) }
	ended := make(chan error, 1)
	go func() { ended <- transport.ActivateAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve DNS: %w", err)
	case <-started:
	}
	select {
	case err := <-ended:
		return fmt.Errorf("serve DNS: %w", err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = transport.ShutdownContext(patience) // what is not answered by now will be asked again
	<-ended
	return nil
}

func (s *Server) serve(ctx context.Context, w dns.ResponseWriter, query *dns.Msg) {
	reply, from := s.reply(ctx, query)
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	fit(reply, query, udp)
	s.metrics.count(from, reply.Rcode)
	_ = w.WriteMsg(reply) // a client that has gone asks again if it still wants to know
}
