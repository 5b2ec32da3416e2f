package dns

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watch feeds the zone from the cache until ctx ends and returns once it has
// everything.
func (s *Server) watch(ctx context.Context) error {
	services := handler(s, func(z *Zone, _, now *corev1.Service) { z.SetService(now) }, (*Zone).DeleteService)
	endpointSlices := handler(s, func(z *Zone, old, now *discoveryv1.EndpointSlice) {
		if old != nil && serviceOf(old) != serviceOf(now) {
			z.DeleteSlice(old)
		}
		z.SetSlice(now)
	}, (*Zone).DeleteSlice)
	for _, w := range []struct {
		object  client.Object
		handler toolscache.ResourceEventHandler
	}{{&corev1.Service{}, services}, {&discoveryv1.EndpointSlice{}, endpointSlices}} {
		informer, err := s.config.Cache.GetInformer(ctx, w.object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", w.object, err)
		}
		registration, err := informer.AddEventHandler(w.handler)
		if err != nil {
			return fmt.Errorf("watch %T: %w", w.object, err)
		}
		context.AfterFunc(ctx, func() { _ = informer.RemoveEventHandler(registration) })
		select {
		case <-registration.HasSyncedChecker().Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// handler returns one that changes the zone. Objects are the cache's: they are
// read and never changed.
func handler[T client.Object](s *Server, set func(z *Zone, old, now T), remove func(*Zone, T)) toolscache.ResourceEventHandler {
	change := func(obj any, do func(T)) {
		if tombstone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		object, ok := obj.(T)
		if !ok {
			return
		}
		s.mu.Lock()
		do(object)
		s.mu.Unlock()
		s.publisher.told(object)
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			change(obj, func(now T) { var none T; set(s.zone, none, now) })
		},
		UpdateFunc: func(old, obj any) {
			before, _ := old.(T)
			change(obj, func(now T) { set(s.zone, before, now) })
		},
		DeleteFunc: func(obj any) { change(obj, func(last T) { remove(s.zone, last) }) },
	}
}
