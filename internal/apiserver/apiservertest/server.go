package apiservertest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"windlass.dev/windlass/internal/apiserver"
	"windlass.dev/windlass/internal/pki"
	"windlass.dev/windlass/internal/store"
)

// startTimeout bounds the start of a server, on a machine with much else to do.
const startTimeout = 60 * time.Second

// Server is an API server that runs in this process until Stop.
type Server struct {
	// Config is the administrator's, in process, without a throttle.
	Config *rest.Config

	// URL is where the server listens with TLS, "https://127.0.0.1:port".
	URL string

	// Kubeconfig is the path of an administrator's kubeconfig, for kubectl.
	Kubeconfig string

	// Authority signs further certificates.
	Authority *pki.Authority

	stop func() error
}

// Start runs a server on an empty directory until the test ends and returns the
// administrator's client configuration. The server is ready: the system
// namespaces and the Service kubernetes are there.
func Start(t testing.TB) *rest.Config { return StartIn(t, t.TempDir()).Config }

// StartIn runs a server on dir, which may hold the state of an earlier one, until
// the test ends or Stop.
func StartIn(t testing.TB, dir string) *Server {
	t.Helper()
	return StartWith(t, dir, func(*apiserver.Config) {})
}

// StartWith is StartIn with a change of the server's configuration.
func StartWith(t testing.TB, dir string, change func(*apiserver.Config)) *Server {
	t.Helper()
	if !testing.Verbose() {
		klog.LogToStderr(false)
		klog.SetOutput(io.Discard)
	}
	s, err := start(dir, change)
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	return s
}

// Stop ends the server and closes its store. It may be called more than once.
func (s *Server) Stop() error { return s.stop() }

func start(dir string, change func(*apiserver.Config)) (_ *Server, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	kept, err := store.Open(ctx, store.Config{Dir: filepath.Join(dir, "etcd")})
	if err != nil {
		return nil, err
	}
	authority, err := pki.Open(filepath.Join(dir, "pki"))
	if err != nil {
		return nil, err
	}
	admin, err := authority.Client("admin", pki.UserAdmin, pki.GroupMasters)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	config := apiserver.Config{
		Store: kept, Authority: authority, Listener: listener,
		// An address that nothing in a test is reached at.
		AdvertiseAddress: netip.MustParseAddr("192.0.2.1"),
	}
	change(&config)
	server, err := apiserver.New(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Config:     server.ClientConfig(),
		URL:        "https://" + listener.Addr().String(),
		Kubeconfig: filepath.Join(dir, "kubeconfig"),
		Authority:  authority,
	}
	if err := authority.WriteKubeconfig(s.Kubeconfig, s.URL, pki.UserAdmin, admin); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	var result error
	stopped := false
	s.stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-ended
			kept.Close()
		}
		return result
	}
	if err := waitReady(ctx, s.Config, ended); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// waitReady returns when /readyz says ok.
func waitReady(ctx context.Context, config *rest.Config, ended chan error) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").DoRaw(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case end := <-ended:
			ended <- end
			return errors.Join(errors.New("the API server ended before it was ready"), end)
		case <-ctx.Done():
			return errors.Join(errors.New("the API server is not ready: "+string(answer)), err)
		}
	}
}
