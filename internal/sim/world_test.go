package sim

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/hollow"
	"windlass.dev/windlass/internal/apiserver/apiservertest"
	"windlass.dev/windlass/internal/server"
)

// patience bounds the wait for something to come true, on a machine with much
// else to do.
const patience = 60 * time.Second

const namespace = "default"

// world is a control plane. The agents have a cache of their own and outlive the
// controllers, as on machines of their own.
type world struct {
	t       testing.TB
	api     *rest.Config
	ca      []byte
	client  kubernetes.Interface
	fleet   *hollow.Fleet
	monitor *monitor
	breaker *breaker
	stop    func() // ends the controllers
}

func newWorld(t testing.TB, nodes int) *world {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	s := apiservertest.StartIn(t, t.TempDir())
	w := &world{t: t, api: rest.CopyConfig(s.Config), ca: s.Authority.PEM(), breaker: &breaker{}}
	w.api.WarningHandlerWithContext = rest.NoWarnings{}
	var err error
	if w.client, err = kubernetes.NewForConfig(w.api); err != nil {
		t.Fatal(err)
	}
	w.monitor = startMonitor(t, w.client)
	w.startNodes(nodes)
	w.startControllers()
	t.Cleanup(func() { w.stop() })
	w.eventually("all nodes are ready", func() bool { return w.readyNodes() == nodes })
	return w
}

// startNodes starts the hollow nodes, until the test ends.
func (w *world) startNodes(n int) {
	w.t.Helper()
	informers, err := cache.New(w.api, cache.Options{Scheme: scheme.Scheme})
	if err != nil {
		w.t.Fatal(err)
	}
	cached, err := client.New(w.api, client.Options{Scheme: scheme.Scheme, Cache: &client.CacheOptions{Reader: informers}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.fleet, err = hollow.NewFleet(hollow.FleetConfig{
		Nodes: n, PodRange: netip.MustParsePrefix("10.42.0.0/16"), DataDir: w.t.TempDir(),
		Client: cached, Cache: informers, Recorder: func(string) record.EventRecorder { return &record.FakeRecorder{} },
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = informers.Start(ctx) })
	running.Go(func() {
		if err := w.fleet.Run(ctx); err != nil {
			w.t.Errorf("the nodes ended: %v", err)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
}

// startControllers starts a manager that knows nothing of the one before.
func (w *world) startControllers() {
	w.t.Helper()
	config := rest.CopyConfig(w.api)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return w.breaker.of(next) })
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := server.NewManager(ctx, config, w.ca, server.PodRanges{})
	if err != nil {
		cancel()
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-ended // with an error where writes of the dead were refused
	})
}

// crashControllers lets the controllers make n more writes, refuses all after
// that, and starts others in their place.
func (w *world) crashControllers(n int) {
	w.t.Helper()
	select {
	case <-w.breaker.arm(n):
	case <-time.After(300 * time.Millisecond): // there is not so much to write
	}
	w.breaker.cut()
	w.stop()
	w.breaker.mend()
	w.startControllers()
}

// breaker stands between the controllers and the API.
type breaker struct {
	mu    sync.Mutex
	state breakerState
	left  int
	spent chan struct{}
}

type breakerState int

const (
	passing  breakerState = iota
	counting              // of writes
	refusing
)

var errDead = errors.New("this process is dead")

func (b *breaker) arm(n int) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.left, b.spent = counting, n, make(chan struct{})
	if n == 0 {
		b.state = refusing
		close(b.spent)
	}
	return b.spent
}

func (b *breaker) set(state breakerState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = state
}

func (b *breaker) cut()  { b.set(refusing) }
func (b *breaker) mend() { b.set(passing) }

// passes says whether a request may go to the API.
func (b *breaker) passes(request *http.Request) bool {
	if request.Method == http.MethodGet || strings.Contains(request.URL.Path, "/events") || strings.Contains(request.URL.Path, "/leases") {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != counting {
		return b.state == passing
	}
	if b.left--; b.left == 0 {
		b.state = refusing
		close(b.spent)
	}
	return true
}

func (b *breaker) of(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if !b.passes(request) {
			return nil, errDead
		}
		if request.Method != http.MethodGet {
			// What was sent arrives, and it arrives before others start: in reality the
			// API dies with the process that has sent it.
			request = request.WithContext(context.WithoutCancel(request.Context()))
		}
		return next.RoundTrip(request)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			w.t.Fatalf("it did not come true that %s\n%s", what, w.describe())
		case <-tick.C:
		}
	}
}

func (w *world) readyNodes() int {
	ready := 0
	for _, node := range list[corev1.Node](w, "nodes", func(ctx context.Context) (*corev1.NodeList, error) {
		return w.client.CoreV1().Nodes().List(ctx, listAll)
	}) {
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	return ready
}
