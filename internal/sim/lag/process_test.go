package lag

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	corev1 "k8s.io/api/core/v1"
)

// errLost is what is seen of a write whose answer, or which itself, is lost.
var errLost = errors.New("connection lost")

// network is what lies between the API and a process: it delays, loses and breaks,
// until it is calm; while it is cut nothing comes through.
type network struct {
	api  *api
	calm *atomic.Bool
	cut  *atomic.Bool
}

// lag is how long it takes this time.
func (n network) lag() time.Duration {
	switch d := n.api.draw(1000); {
	case n.calm.Load() || d < 600:
		return time.Duration(n.api.draw(10)) * time.Millisecond
	case d < 900:
		return time.Duration(n.api.draw(300)) * time.Millisecond
	case d < 985:
		return time.Duration(n.api.draw(2000)) * time.Millisecond
	}
	return time.Duration(n.api.draw(8000)) * time.Millisecond
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// send does something at the API, or seems to.
func (n network) send(ctx context.Context, do func() error) error {
	if err := pause(ctx, n.lag()/4); err != nil {
		return err
	}
	fate := n.api.draw(40)
	if n.cut.Load() || fate == 0 && !n.calm.Load() {
		return errLost
	}
	err := do()
	if ended := pause(ctx, n.lag()/4); ended != nil || n.cut.Load() || fate == 1 && !n.calm.Load() {
		return errLost
	}
	return err
}

// ask reads something of the API as it is, which takes no time: some read while they
// hold a lock, and for one who waits for a lock the time of the test would stand still.
func (n network) ask(do func() error) error {
	if n.cut.Load() || n.api.draw(40) == 0 && !n.calm.Load() {
		return errLost
	}
	return do()
}

// connection is a process' client: it reads from its cache, or past it where that is nil.
type connection struct {
	client.Client // nil: of the rest nobody has need
	network
	cache client.Reader
}

func (c *connection) Scheme() *runtime.Scheme { return scheme.Scheme }

func (c *connection) RESTMapper() meta.RESTMapper { return mapper }

func (c *connection) GroupVersionKindFor(o runtime.Object) (schema.GroupVersionKind, error) {
	return apiutil.GVKForObject(o, scheme.Scheme)
}

func (c *connection) Get(ctx context.Context, k client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if c.cache != nil {
		return c.cache.Get(ctx, k, o, opts...)
	}
	return c.ask(func() error { return c.api.get(key{kindOf(o), k}, o) })
}

func (c *connection) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if c.cache != nil {
		return c.cache.List(ctx, list, opts...)
	}
	return c.ask(func() error { return c.api.list(list, (&client.ListOptions{}).ApplyOptions(opts)) })
}

func (c *connection) Create(ctx context.Context, o client.Object, _ ...client.CreateOption) error {
	return c.send(ctx, func() error { return c.api.create(o) })
}

func (c *connection) Update(ctx context.Context, o client.Object, _ ...client.UpdateOption) error {
	return c.send(ctx, func() error { return c.api.change(o, false) })
}

func (c *connection) Patch(ctx context.Context, o client.Object, p client.Patch, _ ...client.PatchOption) error {
	return c.send(ctx, func() error { return c.api.patch(o, p, false) })
}

func (c *connection) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	return c.send(ctx, func() error { return c.api.remove(o, (&client.DeleteOptions{}).ApplyOptions(opts)) })
}

func (c *connection) Status() client.SubResourceWriter { return subresource{connection: c} }

func (c *connection) SubResource(string) client.SubResourceClient { return subresource{connection: c} }

// subresource is the status of an object, or the binding of a pod.
type subresource struct {
	client.SubResourceClient
	connection *connection
}

func (s subresource) Create(ctx context.Context, o, sub client.Object, _ ...client.SubResourceCreateOption) error {
	return s.connection.send(ctx, func() error { return s.connection.api.bind(sub.(*corev1.Binding)) })
}

func (s subresource) Update(ctx context.Context, o client.Object, _ ...client.SubResourceUpdateOption) error {
	return s.connection.send(ctx, func() error { return s.connection.api.change(o, true) })
}

func (s subresource) Patch(ctx context.Context, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
	return s.connection.send(ctx, func() error { return s.connection.api.patch(o, p, true) })
}

var mapper = func() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for kind := range scheme.Scheme.AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		switch kind.Kind {
		case "Node", "Namespace", "PersistentVolume", "StorageClass":
			scope = meta.RESTScopeRoot
		}
		m.Add(kind, scope)
	}
	return m
}()

// newCache returns a cache that lags as the network does.
func (n network) newCache() (cache.Cache, error) {
	return cache.New(&rest.Config{Host: "127.0.0.1:1"}, cache.Options{
		Scheme: scheme.Scheme, Mapper: mapper,
		NewInformer: func(_ toolscache.ListerWatcher, o runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
			return toolscache.NewSharedIndexInformer(n.watching(o), o, resync, by)
		},
	})
}

// plain: there is nothing but list and watch.
type plain struct{}

func (plain) IsWatchListSemanticsUnSupported() bool { return true }

func (n network) watching(o runtime.Object) toolscache.ListerWatcher {
	kind := kindOf(o)
	return toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListWithContextFunc: func(_ context.Context, _ metav1.ListOptions) (runtime.Object, error) {
			of, err := apiutil.GVKForObject(o, scheme.Scheme)
			if err != nil {
				return nil, err
			}
			made, err := scheme.Scheme.New(of.GroupVersion().WithKind(of.Kind + "List"))
			if err != nil {
				return nil, err
			}
			list := made.(client.ObjectList)
			return list, n.ask(func() error { return n.api.list(list, &client.ListOptions{}) })
		},
		WatchFuncWithContext: func(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
			from, err := strconv.Atoi(options.ResourceVersion)
			if err != nil {
				return nil, fmt.Errorf("watch from version %q: %w", options.ResourceVersion, err)
			}
			s := &stream{events: make(chan watch.Event), network: n, kind: kind, from: from}
			s.ctx, s.end = context.WithCancel(context.Background())
			go s.run()
			return s, nil
		},
	}, plain{})
}

// stream is a watch.
type stream struct {
	network
	ctx    context.Context
	end    context.CancelFunc
	events chan watch.Event
	kind   string
	from   int // the version that was sent last
	seen   int // of the log
}

func (s *stream) Stop() { s.end() }

func (s *stream) ResultChan() <-chan watch.Event { return s.events }

// run sends one change after the other, each after a while; sometimes the watch has
// to begin anew, and what came and went meanwhile is never seen.
func (s *stream) run() {
	defer close(s.events)
	for {
		next, more := s.next()
		if next == nil {
			select {
			case <-more:
				continue
			case <-s.ctx.Done():
				return
			}
		}
		until := time.Until(next.at.Add(s.lag()))
		for pause(s.ctx, until) == nil && s.cut.Load() {
			until = 100 * time.Millisecond
		}
		event := watch.Event{Type: next.event, Object: next.object.DeepCopyObject()}
		if s.api.draw(200) == 0 && !s.calm.Load() {
			event = watch.Event{Type: watch.Error, Object: &metav1.Status{Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonExpired}}
		}
		select {
		case s.events <- event:
			s.from = next.version
		case <-s.ctx.Done():
			return
		}
		if event.Type == watch.Error {
			return
		}
	}
}

// next returns the next change to send, or what tells of more.
func (s *stream) next() (*change, <-chan struct{}) {
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	for ; s.seen < len(s.api.log); s.seen++ {
		if c := &s.api.log[s.seen]; c.kind == s.kind && c.version > s.from {
			return c, nil
		}
	}
	return nil, s.api.more
}

// managed is a manager whose readers past the cache read the API in memory.
type managed struct {
	ctrl.Manager
	live client.Reader
}

func (m managed) GetAPIReader() client.Reader { return m.live }

// start runs a process that has some controllers. What it returns ends it.
func (n network) start(setups ...func(ctrl.Manager) error) (func(), error) {
	var reader client.Reader
	m, err := ctrl.NewManager(&rest.Config{Host: "127.0.0.1:1"}, ctrl.Options{
		Scheme: scheme.Scheme, Metrics: server.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper, nil },
		NewCache: func(*rest.Config, cache.Options) (cache.Cache, error) {
			c, err := n.newCache()
			reader = c
			return c, err
		},
		NewClient: func(*rest.Config, client.Options) (client.Client, error) {
			return &connection{network: n, cache: reader}, nil
		},
		GracefulShutdownTimeout: ptr.To(time.Hour),
	})
	if err != nil {
		return nil, err
	}
	for _, setup := range setups {
		if err := setup(managed{m, &connection{network: n}}); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan struct{}), make(chan error, 1)
	if err := m.Add(manager.RunnableFunc(func(context.Context) error { close(started); return nil })); err != nil {
		cancel()
		return nil, err
	}
	go func() { ended <- m.Start(ctx) }()
	return func() {
		<-started // a manager that is ended before spins until it has started
		cancel()
		if err := <-ended; err != nil {
			panic(err)
		}
	}, nil
}
