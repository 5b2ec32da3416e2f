package garbage

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"windlass.dev/windlass/api/v1alpha1"
)

// Kinds that have come or gone are looked for every rediscovery; when not all of
// the API answered, after retryDiscovery.
const (
	rediscovery    = 30 * time.Second
	retryDiscovery = time.Second
)

// shared are the kinds of which other controllers keep informers in the same
// cache anyway. All others are watched by their metadata alone.
func shared() map[schema.GroupKind]client.Object {
	return map[schema.GroupKind]client.Object{
		{Kind: "Pod"}:                                      &corev1.Pod{},
		{Kind: "Node"}:                                     &corev1.Node{},
		{Kind: "Namespace"}:                                &corev1.Namespace{},
		{Kind: "Service"}:                                  &corev1.Service{},
		{Kind: "Endpoints"}:                                &corev1.Endpoints{}, // still served, and written by us
		{Kind: "ConfigMap"}:                                &corev1.ConfigMap{},
		{Kind: "ServiceAccount"}:                           &corev1.ServiceAccount{},
		{Kind: "ReplicationController"}:                    &corev1.ReplicationController{},
		{Group: "apps", Kind: "Deployment"}:                &appsv1.Deployment{},
		{Group: "apps", Kind: "ReplicaSet"}:                &appsv1.ReplicaSet{},
		{Group: "apps", Kind: "StatefulSet"}:               &appsv1.StatefulSet{},
		{Group: "apps", Kind: "ControllerRevision"}:        &appsv1.ControllerRevision{},
		{Group: "discovery.k8s.io", Kind: "EndpointSlice"}: &discoveryv1.EndpointSlice{},
		{Group: "coordination.k8s.io", Kind: "Lease"}:      &coordinationv1.Lease{},
		{Group: "windlass.dev", Kind: "RolloutRecord"}:     &v1alpha1.RolloutRecord{},
	}
}

// Setup adds the collector to a manager; it runs while the manager leads.
// Events about invalid owner references go to recorder. It returns the error of
// making a discovery client, or of adding to the manager.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	kinds, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("garbage: make a discovery client: %w", err)
	}
	logger := mgr.GetLogger().WithName("garbage")
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		ctx = log.IntoContext(ctx, logger)
		c := newCollector(mgr.GetClient(), mgr.GetAPIReader(), mgr.GetRESTMapper(), recorder)
		w := &watches{discovery: kinds, cache: mgr.GetCache(), collector: c, running: map[schema.GroupVersionKind]watch{}}
		// Nothing is judged before everything has been seen once.
		synced, complete := w.update(ctx)
		if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
			return nil
		}
		var following sync.WaitGroup
		defer following.Wait()
		following.Go(func() { w.follow(ctx, complete) })
		c.work(ctx)
		return nil
	}))
}

// watches feed a collector from every kind that can be deleted.
type watches struct {
	discovery discovery.ServerResourcesInterface
	cache     cache.Cache
	collector *collector
	running   map[schema.GroupVersionKind]watch
}

// watch is one kind's informer with the collector's handler.
type watch struct {
	object   client.Object
	informer cache.Informer
	handler  toolscache.ResourceEventHandlerRegistration
}

// follow keeps the watches in line with the kinds that the API serves. complete
// says whether all of the API answered the last time.
func (w *watches) follow(ctx context.Context, complete bool) {
	for {
		wait := rediscovery
		if !complete {
			wait = retryDiscovery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			_, complete = w.update(ctx)
		}
	}
}

// update starts the watches of kinds that are new, stops those of kinds that are
// gone. It returns what tells when those that were started have seen everything,
// and whether all of the API answered.
func (w *watches) update(ctx context.Context) ([]toolscache.InformerSynced, bool) {
	kinds, complete := w.kinds(ctx)
	var synced []toolscache.InformerSynced
	for kind := range kinds {
		if _, ok := w.running[kind]; ok {
			continue
		}
		started, err := w.start(ctx, kind)
		if err != nil {
			log.FromContext(ctx).Error(err, "Watch for owners and dependents", "kind", kind)
			continue
		}
		w.running[kind] = started
		synced = append(synced, started.handler.HasSynced)
	}
	for kind, running := range w.running {
		if kinds[kind] || !complete {
			continue
		}
		if err := running.informer.RemoveEventHandler(running.handler); err != nil {
			log.FromContext(ctx).Error(err, "Stop watching", "kind", kind)
		}
		if _, metadata := running.object.(*metav1.PartialObjectMetadata); metadata {
			if err := w.cache.RemoveInformer(ctx, running.object); err != nil {
				log.FromContext(ctx).Error(err, "Stop watching", "kind", kind)
			}
		}
		delete(w.running, kind)
	}
	return synced, complete
}

// kinds returns the kinds that can be deleted, listed and watched, and whether
// all of the API answered. Events are left out: they own nothing and go by age.
func (w *watches) kinds(ctx context.Context) (map[schema.GroupVersionKind]bool, bool) {
	lists, err := w.discovery.ServerPreferredResources()
	if err != nil {
		log.FromContext(ctx).Error(err, "Discover kinds")
	}
	kinds := map[schema.GroupVersionKind]bool{}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"delete", "list", "watch"}}, lists) {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			if r.Kind != "Event" {
				kinds[gv.WithKind(r.Kind)] = true
			}
		}
	}
	return kinds, err == nil
}

// start feeds the collector from one kind.
func (w *watches) start(ctx context.Context, kind schema.GroupVersionKind) (watch, error) {
	object, ok := shared()[kind.GroupKind()]
	if !ok {
		partial := &metav1.PartialObjectMetadata{}
		partial.SetGroupVersionKind(kind)
		object = partial
	}
	informer, err := w.cache.GetInformer(ctx, object, cache.BlockUntilSynced(false))
	if err != nil {
		return watch{}, err
	}
	handler, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { w.collector.set(kind, o.(metav1.Object)) },
		UpdateFunc: func(before, after any) {
			if b, a := before.(metav1.Object), after.(metav1.Object); b.GetUID() != a.GetUID() {
				w.collector.remove(b.GetUID())
			}
			w.collector.set(kind, after.(metav1.Object))
		},
		DeleteFunc: func(o any) {
			if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			if m, ok := o.(metav1.Object); ok {
				w.collector.remove(m.GetUID())
			}
		},
	})
	if err != nil {
		return watch{}, err
	}
	return watch{object: object, informer: informer, handler: handler}, nil
}
