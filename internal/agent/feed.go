package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Feed tells the agents of one process of the API's changes: of pods the agent
// of their node, of what routes traffic all of them. However many agents there
// are, the cache has one set of handlers. It is safe for concurrent use.
type Feed struct {
	cache cache.Cache

	mu     sync.Mutex // held while agents are told, so that each hears of a pod in order
	agents map[string]*Agent
	synced []toolscache.InformerSynced // of the handlers; nil before the first agent
}

// NewFeed returns a feed of a cache that has informers for pods, services,
// endpoint slices, leases and nodes; somebody else starts it.
func NewFeed(c cache.Cache) *Feed { return &Feed{cache: c, agents: map[string]*Agent{}} }

// follow has an agent told of changes until leave. It returns once the agent
// has been told of every pod that is on its node.
func (f *Feed) follow(ctx context.Context, a *Agent) error {
	synced, err := f.listen(ctx)
	if err != nil {
		return err
	}
	if !f.cache.WaitForCacheSync(ctx) || !waitFor(ctx, synced) {
		return fmt.Errorf("fill the cache: %w", context.Cause(ctx))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list corev1.PodList
	if err := f.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	f.agents[a.cfg.NodeName] = a
	for _, in := range []bool{true, false} { // first those that are in already: the others get what these leave
		for i := range list.Items {
			pod := &list.Items[i]
			if pod.Spec.NodeName == a.cfg.NodeName && in == (pod.Status.StartTime != nil) {
				a.deliver(pod)
			}
		}
	}
	return nil
}

// leave: when it returns, the agent is told nothing more.
func (f *Feed) leave(a *Agent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agents[a.cfg.NodeName] == a {
		delete(f.agents, a.cfg.NodeName)
	}
}

// listen adds the handlers to the cache, once.
func (f *Feed) listen(ctx context.Context) ([]toolscache.InformerSynced, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.synced != nil {
		return f.synced, nil
	}
	traffic := toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { f.routesChanged() },
		UpdateFunc: func(any, any) { f.routesChanged() },
		DeleteFunc: func(any) { f.routesChanged() },
	}
	nodes := traffic
	nodes.AddFunc = func(obj any) { f.nodeChanged(obj.(*corev1.Node)) }
	nodes.UpdateFunc = func(_, obj any) { f.nodeChanged(obj.(*corev1.Node)) }
	pods := toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f.podChanged(nil, obj.(*corev1.Pod)) },
		UpdateFunc: func(old, obj any) { f.podChanged(old.(*corev1.Pod), obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if pod, ok := obj.(*corev1.Pod); ok {
				f.podGone(pod)
			}
		},
	}
	var synced []toolscache.InformerSynced
	for _, kind := range []struct {
		object  client.Object
		handler toolscache.ResourceEventHandler
	}{
		{&corev1.Node{}, nodes}, {&corev1.Service{}, traffic}, {&discoveryv1.EndpointSlice{}, traffic},
		{&coordinationv1.Lease{}, traffic}, {&corev1.Pod{}, pods},
	} {
		informer, err := f.cache.GetInformer(ctx, kind.object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watch %T: %w", kind.object, err)
		}
		registration, err := informer.AddEventHandler(kind.handler)
		if err != nil {
			return nil, fmt.Errorf("watch %T: %w", kind.object, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	f.synced = synced
	return synced, nil
}

func (f *Feed) nodeChanged(node *corev1.Node) {
	f.routesChanged()
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.agents[node.Name]; a != nil && silent(node) {
		a.contradict(time.Now())
	}
}

func (f *Feed) podChanged(old, pod *corev1.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old != nil && old.UID != pod.UID {
		f.lose(old)
	}
	if a := f.agents[pod.Spec.NodeName]; a != nil {
		a.deliver(pod)
	}
}

func (f *Feed) podGone(pod *corev1.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose(pod)
}

func (f *Feed) lose(pod *corev1.Pod) {
	if a := f.agents[pod.Spec.NodeName]; a != nil {
		a.lose(pod.UID)
	}
}

func (f *Feed) routesChanged() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.agents {
		a.wakeDraining()
	}
}
