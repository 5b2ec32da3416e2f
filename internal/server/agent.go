package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/overlay"
)

// RunAgent runs this machine as a node of another machine's cluster until ctx
// ends or a part fails. Containers stay when it returns; a later RunAgent on the
// same directory takes them over.
func RunAgent(ctx context.Context, o AgentOptions) error {
	if err := o.complete(); err != nil {
		return err
	}
	return o.begin(true, func() error {
		member, err := enter(ctx, o)
		if err != nil {
			return err
		}
		for {
			var other overlay.ErrOtherRange
			if err := runMember(ctx, o, member); !errors.As(err, &other) {
				return err
			}
			// The Node was deleted and made anew. Its pods went with it.
			o.Log.Warn("beginning anew", "because", other.Error())
			if err := member.SetPodRange(other.Given); err != nil {
				return err
			}
		}
	})
}

// runMember runs the parts of a node that has joined.
func runMember(ctx context.Context, o AgentOptions, member *join.Member) (err error) {
	if !o.NodeIP.IsValid() {
		if o.NodeIP, err = addressTowards(member.Server()); err != nil {
			o.NodeIP = member.Address() // the network may not be up yet
		}
	}
	up := newLink(member, o.NodeIP)
	api, err := newAgentCluster(up.config(), o.NodeName)
	if err != nil {
		return err
	}
	if err := awaitPodRange(ctx, api.GetAPIReader(), o, member); err != nil {
		return err
	}
	m := &machine{NodeOptions: o.NodeOptions, cluster: member.Cluster(), podRange: member.PodRange()}
	defer m.close()
	if err := m.open(ctx); err != nil {
		return err
	}
	events, stopEvents := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEvents()
	parts, err := m.parts(events, api, identity{certificate: member.Certificate, authority: member.Authority()})
	if err != nil {
		return err
	}
	defer func() {
		if errors.Is(err, join.ErrRevoked) {
			err = errors.Join(fmt.Errorf("this machine is no node any more, and its pods are ended: %w (`windlass token create` makes a token)", err), m.endPods(ctx))
		}
	}()
	o.Log.Info("starting", "data", o.DataDir, "server", member.Server(), "node", o.NodeName, "address", o.NodeIP.String(), "pods", m.podRange.String())
	began := time.Now()
	return runParts(ctx, o.Log, append([]part{
		{"link to the API server", func(ctx context.Context) error { return up.watchServer(ctx, o.Log) }},
		{"certificate", func(ctx context.Context) error { return up.keepCertificate(ctx, o.Log) }},
		{"cache", api.Start},
	}, append(parts, part{"readiness", func(ctx context.Context) error {
		if api.GetCache().WaitForCacheSync(ctx) && awaitNode(ctx, api.GetCache(), o.NodeName) {
			debug.FreeOSMemory() // of what only the start needed
			o.Log.Info("ready", "after", time.Since(began).Round(time.Millisecond).String())
			keepLean(ctx, o.Log)
		}
		<-ctx.Done()
		return nil
	}})...))
}

// awaitPodRange waits until the node has a pod range, which the member keeps: a
// machine that has one needs no server to begin. It fails with join.ErrRevoked
// when the node was deleted.
func awaitPodRange(ctx context.Context, reader client.Reader, o AgentOptions, member *join.Member) error {
	var told string
	for wait := 20 * time.Millisecond; !member.PodRange().IsValid(); wait = min(2*wait, joinMost) {
		var node corev1.Node
		err := reader.Get(ctx, types.NamespacedName{Name: o.NodeName}, &node)
		if apierrors.IsForbidden(err) && deleted(ctx, member) {
			return fmt.Errorf("node %s was deleted: %w: join anew with --token", o.NodeName, join.ErrRevoked)
		}
		if err == nil && node.Spec.PodCIDR != "" {
			within, err := netip.ParsePrefix(node.Spec.PodCIDR)
			if err != nil {
				return fmt.Errorf("the pod range of node %s: %w", o.NodeName, err)
			}
			return member.SetPodRange(within)
		}
		if err == nil {
			err = errors.New("the node has not been given one; `kubectl describe node " + o.NodeName + "` tells why")
		}
		if err.Error() != told && wait > time.Second {
			o.Log.Warn("waiting for this node's pod range", "because", err)
			told = err.Error()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil
}

// newAgentCluster returns a client of the API with a cache of what one node needs:
// its own pods, what routes traffic, and where the other nodes are.
func newAgentCluster(config *rest.Config, node string) (cluster.Cluster, error) {
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, authenticationv1.AddToScheme, coordinationv1.AddToScheme, discoveryv1.AddToScheme, storagev1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(kinds); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	mapper := staticMapper(kinds)
	config.WarningHandlerWithContext = rest.NoWarnings{}
	waiting := rest.CopyConfig(config)
	waiting.Transport = patient{config.Transport}
	watcher, err := rest.HTTPClientFor(waiting)
	if err != nil {
		return nil, fmt.Errorf("make the client of the cache: %w", err)
	}
	api, err := cluster.New(config, func(o *cluster.Options) {
		o.Scheme = kinds
		o.MapperProvider = func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper, nil }
		o.Cache.HTTPClient = watcher
		o.Cache.DefaultTransform = cache.TransformStripManagedFields()
		o.Cache.ByObject = map[client.Object]cache.ByObject{
			&corev1.Pod{}:           {Field: fields.OneTermEqualSelector("spec.nodeName", node)},
			&corev1.Node{}:          {Transform: slimNodes(node)},
			&coordinationv1.Lease{}: {Namespaces: map[string]cache.Config{corev1.NamespaceNodeLease: {}}},
		}
		// These are read one by one when a pod needs them, not kept.
		o.Client.Cache = &client.CacheOptions{DisableFor: []client.Object{
			&corev1.Secret{}, &corev1.ConfigMap{}, &corev1.ServiceAccount{}, &corev1.Namespace{},
		}}
	})
	if err != nil {
		return nil, fmt.Errorf("make the client of the API: %w", err)
	}
	return api, nil
}

// clusterWide are the kinds of an agent's that are not in a namespace.
var clusterWide = map[string]bool{"Node": true, "Namespace": true, "PersistentVolume": true, "StorageClass": true}

// staticMapper knows the kinds of a scheme without asking the API.
func staticMapper(kinds *runtime.Scheme) meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(kinds.PrioritizedVersionsAllGroups())
	for kind := range kinds.AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		if clusterWide[kind.Kind] {
			scope = meta.RESTScopeRoot
		}
		mapper.Add(kind, scope)
	}
	return mapper
}

// slimNodes leaves of other nodes than this one what an agent looks at, where they are
// and whether they live: their lists of images would fill its memory.
func slimNodes(own string) func(any) (any, error) {
	strip := cache.TransformStripManagedFields()
	return func(object any) (any, error) {
		if node, ok := object.(*corev1.Node); ok && node.Name != own {
			kept := corev1.NodeStatus{Addresses: node.Status.Addresses}
			if ready := condition.FindNode(node.Status.Conditions, corev1.NodeReady); ready != nil {
				kept.Conditions = []corev1.NodeCondition{*ready}
			}
			node.Status = kept
			node.Annotations = nil
		}
		return strip(object)
	}
}
