package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	coordinationv1 "k8s.io/api/coordination/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// informers are real informers over lists and watches that the test feeds.
type informers struct {
	t              *testing.T
	services       *source
	endpointSlices *source
	records        *source
	leases         *source
	pods           *source
}

// source is one resource: what a list returns, and the watch.
type source struct {
	informer toolscache.SharedIndexInformer

	mu      sync.Mutex
	objects map[string]client.Object
	watcher *watch.RaceFreeFakeWatcher
}

func newInformers(t *testing.T) *informers {
	return &informers{t, newSource(t, &corev1.Service{}, func() client.ObjectList { return &corev1.ServiceList{} }),
		newSource(t, &discoveryv1.EndpointSlice{}, func() client.ObjectList { return &discoveryv1.EndpointSliceList{} }),
		newSource(t, &v1alpha1.RolloutRecord{}, func() client.ObjectList { return &v1alpha1.RolloutRecordList{} }),
		newSource(t, &coordinationv1.Lease{}, func() client.ObjectList { return &coordinationv1.LeaseList{} }),
		newSource(t, &corev1.Pod{}, func() client.ObjectList { return &corev1.PodList{} })}
}

func newSource(t *testing.T, object client.Object, list func() client.ObjectList) *source {
	s := &source{objects: map[string]client.Object{}}
	s.informer = toolscache.NewSharedIndexInformer(toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListFunc: func(metav1.ListOptions) (runtime.Object, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.list(list()), nil
		},
		WatchFunc: func(metav1.ListOptions) (watch.Interface, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.watcher = watch.NewRaceFreeFake()
			return s.watcher, nil
		},
	}, listsFirst{}), object, 0, toolscache.Indexers{})
	go s.informer.Run(t.Context().Done())
	return s
}

// listsFirst makes an informer list before it watches.
type listsFirst struct{}

func (listsFirst) IsWatchListSemanticsUnSupported() bool { return true }

func (s *source) list(list client.ObjectList) client.ObjectList {
	highest := 1
	for _, o := range s.objects {
		n, _ := strconv.Atoi(o.GetResourceVersion())
		highest = max(highest, n)
		switch l := list.(type) {
		case *corev1.ServiceList:
			l.Items = append(l.Items, *o.(*corev1.Service))
		case *discoveryv1.EndpointSliceList:
			l.Items = append(l.Items, *o.(*discoveryv1.EndpointSlice))
		case *v1alpha1.RolloutRecordList:
			l.Items = append(l.Items, *o.(*v1alpha1.RolloutRecord))
		case *coordinationv1.LeaseList:
			l.Items = append(l.Items, *o.(*coordinationv1.Lease))
		case *corev1.PodList:
			l.Items = append(l.Items, *o.(*corev1.Pod))
		}
	}
	list.SetResourceVersion(strconv.Itoa(highest))
	return list
}

// put adds or changes an object; quiet leaves the watch out.
func (s *source) put(object client.Object, quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := object.GetNamespace() + "/" + object.GetName()
	_, exists := s.objects[key]
	s.objects[key] = object
	switch {
	case quiet || s.watcher == nil:
	case exists:
		s.watcher.Modify(object)
	default:
		s.watcher.Add(object)
	}
}

// put parses objects and gives them to the watches.
func (i *informers) put(lines string) {
	state := parseState(i.t, lines)
	for _, o := range state.Services {
		i.services.put(o, false)
	}
	for _, o := range state.EndpointSlices {
		i.endpointSlices.put(o, false)
	}
	for _, o := range state.Pods {
		i.pods.put(o, false)
	}
}

func (i *informers) GetInformer(_ context.Context, obj client.Object, _ ...cache.InformerGetOption) (cache.Informer, error) {
	switch obj.(type) {
	case *corev1.Service:
		return i.services.informer, nil
	case *v1alpha1.RolloutRecord:
		return i.records.informer, nil
	case *coordinationv1.Lease:
		return i.leases.informer, nil
	case *corev1.Pod:
		return i.pods.informer, nil
	}
	return i.endpointSlices.informer, nil
}

func (i *informers) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	for _, o := range i.endpointSlices.informer.GetStore().List() {
		l := list.(*discoveryv1.EndpointSliceList)
		l.Items = append(l.Items, *o.(*discoveryv1.EndpointSlice))
	}
	return nil
}

// running is a Proxy that runs until the test ends.
type running struct {
	*Proxy
	t      *testing.T
	client client.Client
}

func run(t *testing.T, config Config) *running {
	t.Helper()
	if config.Client == nil {
		config.Client = fake.NewClientBuilder().WithScheme(scheme.Scheme).Build()
	}
	config.NodeName, config.PodRange, config.ServiceRange, config.Bridge = testNode.Name, testNode.PodRange, testNode.ServiceRange, testNode.Bridge
	config.Log = slog.New(slog.DiscardHandler)
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &running{p, t, config.Client}
}

// waitPublished waits for a version in the Lease and checks the rules' time:
// what it covers must be in the kernel.
func (r *running) waitPublished(want uint64) {
	r.t.Helper()
	eventually(r.t, func() error {
		if got := r.published(); got != want {
			return fmt.Errorf("version %d is published, want %d", got, want)
		}
		return nil
	})
}

func (r *running) published() uint64 {
	var lease coordinationv1.Lease
	key := client.ObjectKey{Namespace: v1alpha1.NamespaceNodeLease, Name: v1alpha1.ProxyLeaseName(testNode.Name)}
	if err := r.client.Get(context.Background(), key, &lease); err != nil {
		return 0
	}
	if lease.Labels[v1alpha1.LabelComponent] != v1alpha1.ComponentProxy {
		r.t.Errorf("the Lease's labels are %v", lease.Labels)
	}
	n, _ := strconv.ParseUint(lease.Annotations[v1alpha1.AnnotationAppliedVersion], 10, 64)
	return n
}

func (r *running) waitRules(kernel Kernel, lines string) {
	r.t.Helper()
	want := Compile(parseState(r.t, lines)).Contents()
	eventually(r.t, func() error {
		got, err := kernel.Contents()
		if err == nil && !got.Equal(want) {
			err = fmt.Errorf("the table has %v, want %v", got, want)
		}
		return err
	})
}

const webService = "service web ip=10.43.0.10 port=80\n"

// TestRun: what the API says gets into the kernel; versions are published only
// when somebody waits, and are those of what is in the kernel.
func TestRun(t *testing.T) {
	kernel, api := NewMemory(), newInformers(t)
	lines := webService + "slice web/a port=8080 version=5\n10.42.0.5\n10.42.0.6"
	api.put(lines)
	p := run(t, Config{Kernel: kernel, Flows: &MemoryFlows{}, Cache: api})
	p.waitRules(kernel, lines)
	if n := p.published(); n != 0 {
		t.Errorf("%d was published though nobody waits", n)
	}
	api.put("slice other/b port=8080 version=9\n10.42.0.7")
	api.put("slice web/a port=8080 version=8\n10.42.0.5\n10.42.0.6 terminating serving unready")
	p.waitPublished(9)
	p.waitRules(kernel, webService+"slice web/a port=8080\n10.42.0.5")
	api.put("slice web/a port=8080 version=12\n10.42.0.5 terminating serving unready")
	p.waitPublished(12)
	api.put("slice web/a port=8080 version=15\n10.42.0.5")
	p.waitRules(kernel, webService+"slice web/a port=8080\n10.42.0.5")
	if n := p.published(); n != 12 {
		t.Errorf("%d was published though nobody waits any more, want 12", n)
	}
}

// TestUnansweredAreForgotten: what an endpoint that left has not answered is
// forgotten; what it has, and what others have not yet, stays.
func TestUnansweredAreForgotten(t *testing.T) {
	kernel, api := NewMemory(), newInformers(t)
	answered := flow(TCP, "10.42.0.9:2", "10.43.0.10:80", "10.42.0.6:8080")
	answered.Answered = true
	flows := &MemoryFlows{Flows: []Flow{
		flow(TCP, "10.42.0.9:1", "10.43.0.10:80", "10.42.0.6:8080"), answered,
		flow(TCP, "10.42.0.9:3", "10.43.0.10:80", "10.42.0.5:8080"),
		flow(TCP, "10.42.0.9:4", "10.42.0.6:8080", "10.42.0.6:8080"), // by no Service
	}}
	lines := webService + "slice web/a port=8080 version=5\n10.42.0.5\n10.42.0.6"
	api.put(lines)
	p := run(t, Config{Kernel: kernel, Flows: flows, Cache: api})
	p.waitRules(kernel, lines)
	api.put("slice web/a port=8080 version=8\n10.42.0.5")
	eventually(t, func() error {
		if n := p.Stats().Forgotten; n != 1 {
			return fmt.Errorf("%d connections are forgotten, want one", n)
		}
		return nil
	})
}

// TestAwaited: a version is published also when an agent asks for it, once it
// is in the kernel, whatever its endpoints are.
func TestAwaited(t *testing.T) {
	kernel, api := NewMemory(), newInformers(t)
	api.put(webService + "slice web/a port=8080 version=5\n10.42.0.5\n10.42.0.6")
	p := run(t, Config{Kernel: kernel, Flows: &MemoryFlows{}, Cache: api})
	ask := func(node, version string) {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.NamespaceNodeLease, Name: node}}
		lease.Annotations = map[string]string{v1alpha1.AnnotationAwaitedVersion: version}
		api.leases.put(lease, false)
	}
	api.put("slice web/a port=8080 version=8\n10.42.0.5\n10.42.0.6 unready")
	ask("b", "8")
	p.waitPublished(8)
	p.waitRules(kernel, webService+"slice web/a port=8080\n10.42.0.5")
	ask("a", "7") // is published already
	ask("c", "nonsense")
	api.put("slice web/a port=8080 version=9\n10.42.0.5")
	p.waitRules(kernel, webService+"slice web/a port=8080\n10.42.0.5")
	api.put("slice web/a port=8080 version=10\n10.42.0.7")
	p.waitRules(kernel, webService+"slice web/a port=8080\n10.42.0.7")
	if n := p.published(); n != 8 {
		t.Errorf("%d was published though nobody waits any more, want 8", n)
	}
	ask("a", "12") // before this proxy has seen it
	p.waitPublished(10)
	api.put("slice web/a port=8080 version=12\n10.42.0.7\n10.42.0.8 unready")
	p.waitPublished(12)
}

// TestNothingIsPublishedBeforeItIsApplied: while the kernel refuses, the
// version stays back.
func TestNothingIsPublishedBeforeItIsApplied(t *testing.T) {
	kernel, api := NewMemory(), newInformers(t)
	var mu sync.Mutex
	refuse := true
	kernel.Fail = func(Transaction) error {
		mu.Lock()
		defer mu.Unlock()
		if refuse {
			return errors.New("refused")
		}
		return nil
	}
	lines := webService + "slice web/a port=8080 version=5\n10.42.0.5 terminating\n10.42.0.6"
	api.put(lines)
	p := run(t, Config{Kernel: kernel, Flows: &MemoryFlows{}, Cache: api})
	eventually(t, func() error {
		if p.Stats().Errors < 2 {
			return errNotYet
		}
		return nil
	})
	if n := p.published(); n != 0 {
		t.Errorf("%d was published and not applied", n)
	}
	mu.Lock()
	refuse = false
	mu.Unlock()
	p.waitPublished(5)
	p.waitRules(kernel, lines)
}

// TestRelist: a watch that breaks and lists anew delivers objects in any
// order. No version may be published before all of them are in the kernel.
func TestRelist(t *testing.T) {
	kernel, api := NewMemory(), newInformers(t)
	api.put(webService)
	for i := range 20 {
		api.put(fmt.Sprintf("slice web/s%02d port=8080 version=%d\n10.42.0.%d", i, i+1, i+2))
	}
	// Each version that is published is checked against the kernel at that moment.
	tooEarly := make(chan string, 100)
	writes := interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
		contents, err := kernel.Contents()
		if err != nil {
			return err
		}
		if left := len(contents.Sets[setHairpins]); left > 0 {
			tooEarly <- fmt.Sprintf("%s is published with %d endpoints in the rules", obj.GetAnnotations()[v1alpha1.AnnotationAppliedVersion], left)
		}
		return c.Patch(ctx, obj, patch, opts...)
	}}
	p := run(t, Config{Kernel: kernel, Flows: &MemoryFlows{}, Cache: api,
		Client: fake.NewClientBuilder().WithScheme(scheme.Scheme).WithInterceptorFuncs(writes).Build()})
	eventually(t, func() error {
		if contents, _ := kernel.Contents(); len(contents.Sets[setHairpins]) != 20 {
			return errNotYet
		}
		return nil
	})
	// All leave while the watch is deaf; then it breaks.
	for i := range 20 {
		for _, s := range parseState(t, fmt.Sprintf("slice web/s%02d port=8080 version=%d\n10.42.0.%d terminating", i, 100+i, i+2)).EndpointSlices {
			api.endpointSlices.put(s, true)
		}
	}
	api.endpointSlices.mu.Lock()
	expired := metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: 410}
	api.endpointSlices.watcher.Error(&expired)
	api.endpointSlices.watcher.Stop()
	api.endpointSlices.mu.Unlock()
	p.waitPublished(119)
	select {
	case what := <-tooEarly:
		t.Error(what)
	default:
	}
}

// TestPublishAgain: what could not be written is written later.
func TestPublishAgain(t *testing.T) {
	var mu sync.Mutex
	failures := 2
	writes := interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
		mu.Lock()
		defer mu.Unlock()
		if failures > 0 {
			failures--
			return errors.New("no API now")
		}
		return c.Patch(ctx, obj, patch, opts...)
	}}
	api := newInformers(t)
	api.put("slice web/a port=8080 version=7\n10.42.0.5 terminating")
	p := run(t, Config{Kernel: NewMemory(), Flows: &MemoryFlows{}, Cache: api,
		Client: fake.NewClientBuilder().WithScheme(scheme.Scheme).WithInterceptorFuncs(writes).Build()})
	p.waitPublished(7)
}

// TestRunRecords: the traffic of a Service gets into the record of a rollout.
func TestRunRecords(t *testing.T) {
	kernel, api := NewMemory(), newInformers(t)
	lines := webService + "slice web/a port=8080 version=5\n10.42.0.5"
	api.put(lines)
	record := &v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-2"}, Spec: v1alpha1.RolloutRecordSpec{Services: []string{"web"}}}
	api.records.put(record.DeepCopy(), false) // the client in memory sets a version on what it is given
	records := fake.NewClientBuilder().WithScheme(testScheme(t)).WithStatusSubresource(record).WithObjects(record).Build()
	p := run(t, Config{Kernel: kernel, Flows: &MemoryFlows{}, Cache: api, Client: records})
	p.waitRules(kernel, lines)
	path := Path{netip.MustParseAddrPort("10.43.0.10:80"), netip.MustParseAddrPort("10.42.0.5:8080")}
	eventually(t, func() error { // the count begins when the record has been seen
		kernel.Send(path, v1alpha1.TrafficCount{Connections: 1, Refused: 1, Reset: 1})
		var got v1alpha1.RolloutRecord
		if err := records.Get(t.Context(), client.ObjectKeyFromObject(record), &got); err != nil {
			return err
		}
		if count := got.Status.Traffic[testNode.Name]; count.Connections == 0 || count.Connections != count.Refused || count.Connections != count.Reset {
			return fmt.Errorf("the record says %+v", got.Status.Traffic)
		}
		return nil
	})
}

// TestFlushed: rules that somebody else flushes are back at once, on the fake
// by the next change, in the kernel by its own word.
func TestFlushed(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the nft command")
	}
	ns := newNamespace(t)
	kernel := realKernel(t, ns)
	reader := realKernel(t, ns)
	api := newInformers(t)
	lines := webService + "slice web/a port=8080 version=5\n10.42.0.5"
	api.put(lines)
	p := run(t, Config{Kernel: kernel, Flows: NewConntrack(int(ns.handle)), Cache: api})
	p.waitRules(reader, lines)
	for range 3 {
		before := p.Stats().Repaired
		nft(t, ns, "flush ruleset")
		eventually(t, func() error {
			if p.Stats().Repaired == before {
				return errNotYet
			}
			return nil
		})
		p.waitRules(reader, lines)
	}
}

func TestNewRefuses(t *testing.T) {
	config := Config{PodRange: testNode.PodRange, ServiceRange: testNode.ServiceRange, Kernel: NewMemory(), Flows: &MemoryFlows{}}
	if _, err := New(config); err != nil {
		t.Errorf("New: %v", err)
	}
	config.ServiceRange = netip.MustParsePrefix("fd00::/64")
	if _, err := New(config); err == nil || !strings.Contains(err.Error(), "fd00::/64") {
		t.Errorf("New with an IPv6 range: %v, want it refused by name", err)
	}
}
