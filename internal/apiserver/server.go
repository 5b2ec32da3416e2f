package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/rest"

	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/pki"
)

const (
	// requestTimeout bounds every request but watches and logs.
	requestTimeout = time.Minute

	// shutdownPatience bounds how long Run waits for requests at its end.
	shutdownPatience = 2 * time.Second

	// The most requests that are served at once; more get status 429.
	readsInFlight, writesInFlight = 2000, 1000
)

// Server is an assembled API server.
type Server struct {
	generic *genericapiserver.GenericAPIServer
	config  Config
	faults  []serviceFault // to be told

	// failed gets the reason why the server cannot go on.
	failed chan error
}

// New assembles a server on cfg. It signs certificates when they are missing and
// opens the kinds' storage, whose caches begin to fill; it serves nothing before Run.
// ctx bounds the time that this takes.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	codecs := newCodecs(scheme)
	generic := genericapiserver.NewConfig(codecs.CodecFactory)
	generic.Serializer = codecs
	if err := secure(generic, cfg); err != nil {
		return nil, err
	}
	tune(generic, cfg)
	if err := describe(generic); err != nil {
		return nil, err
	}

	api, err := newAPI(ctx, cfg, registries{scheme: scheme, codecs: codecs, store: cfg.Store})
	if err != nil {
		return nil, err
	}
	generic.Authentication.Authenticator = newAuthenticator(cfg.Authority, api.tokens)
	generic.Authentication.APIAudiences = authenticator.Audiences{issuerURL}
	generic.AdmissionControl = newAdmission(api)
	generic.Authorization.Authorizer = api.may
	generic.BuildHandlerChainFunc = func(inner http.Handler, config *genericapiserver.Config) http.Handler {
		return genericapiserver.DefaultBuildHandlerChain(api.members.bound(rememberCaller(inner)), config)
	}

	// The loopback configuration needs the handler, which needs a configuration.
	loopback := &rest.Config{}
	generic.LoopbackClientConfig = loopback
	server, err := generic.Complete(nil).New("windlass", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("assemble the API server: %w", err)
	}
	*loopback = *loopbackConfig(server.Handler)
	server.ShutdownTimeout = shutdownPatience
	if err := api.install(server, scheme, codecs); err != nil {
		return nil, err
	}
	if err := api.tokens.publish(server, cfg); err != nil {
		return nil, err
	}
	server.Handler.NonGoRestfulMux.Handle(join.Path, api.joiner)
	lazyOpenAPI(server)
	noExtensions(server)
	s := &Server{generic: server, config: cfg, faults: api.faults, failed: make(chan error, 1)}
	return s, s.hooks()
}

// ClientConfig returns a client configuration for the parts in this process: it
// may do everything, is not throttled, and its requests are function calls, which
// work as soon as Run has begun.
func (s *Server) ClientConfig() *rest.Config { return rest.CopyConfig(s.generic.LoopbackClientConfig) }

// Run serves until ctx ends, then lets running requests finish, bounded by a few
// seconds, and closes the kinds' storage but not the store. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failure error
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case failure = <-s.failed:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.generic.PrepareRun().RunWithContext(ctx)
	cancel()
	<-watched
	if err = errors.Join(failure, err); err != nil {
		return fmt.Errorf("serve the API: %w", err)
	}
	return nil
}

// secure sets up who is served and how the server proves itself.
func secure(generic *genericapiserver.Config, cfg Config) error {
	first := cfg.ServiceRange.Addr().Next()
	hosts := append(pki.ServerHosts(cfg.AdvertiseAddress, first), cfg.ExtraHosts...)
	certificate, err := cfg.Authority.KeepServing("apiserver", hosts...)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	clients, err := dynamiccertificates.NewStaticCAContent("clients", cfg.Authority.PEM())
	if err != nil {
		return fmt.Errorf("client authority: %w", err)
	}
	generic.SecureServing = &genericapiserver.SecureServingInfo{
		Listener:      cfg.Listener,
		Cert:          servingCertificate{certificate, cfg.Authority.PEM()},
		ClientCA:      clients,
		MinTLSVersion: tls.VersionTLS12,
	}
	return nil
}

// servingCertificate is the server's certificate of now, with the authority's: a
// machine that joins knows that by its hash.
type servingCertificate struct {
	renewed   *pki.Renewed
	authority []byte
}

// Name implements dynamiccertificates.CertKeyContentProvider.
func (servingCertificate) Name() string { return "apiserver" }

// CurrentCertKeyContent implements dynamiccertificates.CertKeyContentProvider.
func (c servingCertificate) CurrentCertKeyContent() (chain, key []byte) {
	pair := c.renewed.Pair()
	return append(slices.Clone(pair.Cert), c.authority...), pair.Key
}

// AddListener implements dynamiccertificates.Notifier: the listener looks every minute
// by itself.
func (servingCertificate) AddListener(dynamiccertificates.Listener) {}

// tune sets what this server does with less than the library's defaults, which are
// made for large clusters.
func tune(generic *genericapiserver.Config, cfg Config) {
	generic.EffectiveVersion = newEffectiveVersion(cfg.Version)
	generic.PublicAddress = cfg.AdvertiseAddress.AsSlice()
	generic.RequestTimeout = requestTimeout
	generic.MaxRequestsInFlight, generic.MaxMutatingRequestsInFlight = readsInFlight, writesInFlight
	generic.LongRunningFunc = filters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"),
		sets.NewString("attach", "exec", "proxy", "log", "portforward"),
	)
	generic.ShutdownWatchTerminationGracePeriod = shutdownPatience
	generic.StorageObjectCountTracker = nil
	generic.DisabledPostStartHooks.Insert("max-in-flight-filter")
	generic.AddReadyzChecks(
		healthz.NamedCheck("store", storeCheck(cfg.Store)),
		healthz.NamedCheck("parts", func(*http.Request) error { return cfg.Ready() }))
}

// hooks registers what happens once the server answers; readiness waits for it.
func (s *Server) hooks() error {
	if err := s.generic.AddPostStartHook("storage-readiness", s.generic.StorageReadinessHook.Hook); err != nil {
		return err
	}
	return s.generic.AddPostStartHook("windlass-bootstrap", func(ctx genericapiserver.PostStartHookContext) error {
		if err := bootstrap(ctx, ctx.LoopbackClientConfig, s.config, s.faults); err != nil && ctx.Err() == nil {
			// An error returned from here would end the process at once.
			s.failed <- err
			<-ctx.Done()
		}
		return nil
	})
}
