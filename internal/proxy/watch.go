package proxy

import (
	"context"
	"fmt"
	"strconv"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
)

// Informers is what the proxy needs of a cache.Cache.
type Informers interface {
	GetInformer(ctx context.Context, obj client.Object, opts ...cache.InformerGetOption) (cache.Informer, error)
	List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error
}

// watch feeds the model from the cache and returns once it has everything.
func (p *Proxy) watch(ctx context.Context) error {
	services := handler(p, func(m *Model, s *corev1.Service) { m.SetService(s) },
		func(m *Model, s *corev1.Service) { m.DeleteService(s.Namespace, s.Name) })
	endpointSlices := handler(p, func(m *Model, s *discoveryv1.EndpointSlice) {
		m.SetSlice(s)
		p.seen = max(p.seen, version(s))
	}, func(m *Model, s *discoveryv1.EndpointSlice) {
		m.DeleteSlice(s)
		p.seen = max(p.seen, version(s))
	})
	for _, w := range []struct {
		object  client.Object
		handler toolscache.ResourceEventHandler
	}{{&corev1.Service{}, services}, {&discoveryv1.EndpointSlice{}, endpointSlices}, {&corev1.Pod{}, p.hostPorts()}, {&coordinationv1.Lease{}, p.awaiting()}} {
		registration, err := p.subscribe(ctx, w.object, w.handler)
		if err != nil {
			return err
		}
		select {
		case <-registration.HasSyncedChecker().Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// hostPorts returns a handler of pods that changes the model and wakes the loop
// when the host ports of one change. Most changes of pods say nothing of those.
func (p *Proxy) hostPorts() toolscache.ResourceEventHandler {
	change := func(f func(*Model, *corev1.Pod), obj any) {
		if tombstone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Spec.NodeName != p.config.NodeName {
			return
		}
		p.mu.Lock()
		f(p.model, pod)
		news := len(p.model.dirty) > 0
		p.mu.Unlock()
		if news {
			notify(p.changed)
		}
	}
	set := func(m *Model, pod *corev1.Pod) { m.SetPod(pod) }
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { change(set, obj) },
		UpdateFunc: func(_, obj any) { change(set, obj) },
		DeleteFunc: func(obj any) { change(func(m *Model, pod *corev1.Pod) { m.DeletePod(pod.Namespace, pod.Name) }, obj) },
	}
}

// awaiting returns a handler of Leases that wakes the loop when an agent asks for
// a higher version than all before. Most changes of Leases say nothing of that.
func (p *Proxy) awaiting() toolscache.ResourceEventHandler {
	hear := func(obj any) {
		lease, ok := obj.(*coordinationv1.Lease)
		if !ok || lease.Namespace != v1alpha1.NamespaceNodeLease || lease.Annotations[v1alpha1.AnnotationAwaitedVersion] == "" {
			return
		}
		asked, err := strconv.ParseUint(lease.Annotations[v1alpha1.AnnotationAwaitedVersion], 10, 64)
		if err != nil {
			return
		}
		p.mu.Lock()
		more := asked > p.await
		p.await = max(p.await, asked)
		p.mu.Unlock()
		if more {
			notify(p.changed)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{AddFunc: hear, UpdateFunc: func(_, obj any) { hear(obj) }}
}

// subscribe has the cache tell a handler of all objects of a kind until ctx ends.
func (p *Proxy) subscribe(ctx context.Context, object client.Object, handler toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	informer, err := p.config.Cache.GetInformer(ctx, object, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", object, err)
	}
	registration, err := informer.AddEventHandler(handler)
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", object, err)
	}
	context.AfterFunc(ctx, func() { _ = informer.RemoveEventHandler(registration) })
	return registration, nil
}

// handler returns one that changes the model and wakes the loop. Objects are
// the cache's: they are read and never changed.
func handler[T any](p *Proxy, set, remove func(*Model, T)) toolscache.ResourceEventHandler {
	change := func(f func(*Model, T), obj any) {
		if tombstone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		object, ok := obj.(T)
		if !ok {
			return
		}
		p.mu.Lock()
		f(p.model, object)
		p.mu.Unlock()
		notify(p.changed)
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { change(set, obj) },
		UpdateFunc: func(_, obj any) { change(set, obj) },
		DeleteFunc: func(obj any) { change(remove, obj) },
	}
}
