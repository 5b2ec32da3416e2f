package server

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	managerconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"windlass.dev/windlass/internal/agent/hollow"
	"windlass.dev/windlass/internal/apiserver"
	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/controller/deployment"
	"windlass.dev/windlass/internal/controller/disruption"
	"windlass.dev/windlass/internal/controller/endpointmirror"
	"windlass.dev/windlass/internal/controller/endpoints"
	"windlass.dev/windlass/internal/controller/endpointslice"
	"windlass.dev/windlass/internal/controller/garbage"
	"windlass.dev/windlass/internal/controller/namespace"
	nodecontroller "windlass.dev/windlass/internal/controller/node"
	"windlass.dev/windlass/internal/controller/persistentvolume"
	"windlass.dev/windlass/internal/controller/podgc"
	"windlass.dev/windlass/internal/controller/podrange"
	"windlass.dev/windlass/internal/controller/replicaset"
	"windlass.dev/windlass/internal/controller/rolloutrecord"
	"windlass.dev/windlass/internal/controller/service"
	"windlass.dev/windlass/internal/controller/serviceaccount"
	"windlass.dev/windlass/internal/controller/statefulset"
	"windlass.dev/windlass/internal/controller/tainteviction"
	"windlass.dev/windlass/internal/controller/tokencleaner"
	"windlass.dev/windlass/internal/event"
	"windlass.dev/windlass/internal/scheduler"
)

// stopPatience bounds how long the controllers may take to end.
const stopPatience = 10 * time.Second

// run starts the parts in the order in which they stand on each other.
func (n *node) run(ctx context.Context) error {
	events, stopEvents := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEvents()
	mgr, err := NewManager(events, n.api.ClientConfig(), n.authority.PEM(), n.podRanges())
	if err != nil {
		return err
	}
	compose := n.machineParts
	if n.HollowNodes > 0 {
		compose = n.hollowParts
	}
	nodes, names, err := compose(events, mgr)
	if err != nil {
		return err
	}
	n.progress.expect("controllers")
	n.progress.expect("node")
	n.Log.Info("starting", "data", n.DataDir, "listen", n.listener.Addr().String(), "nodes", len(names), "first", names[0], "address", n.advertised().String())
	parts := append([]part{
		{"kubeconfig", n.keepKubeconfig},
		{"store", n.watchStore},
		{"API server", n.api.Run},
		{"controllers", mgr.Start},
	}, nodes...)
	return runParts(ctx, n.Log, append(parts, part{"readiness", func(ctx context.Context) error { return n.becomeReady(ctx, mgr, names) }}))
}

// machineParts makes the parts of a server whose node is this machine, and
// returns them with the node's name.
func (n *node) machineParts(events context.Context, mgr ctrl.Manager) ([]part, []string, error) {
	certificate, err := n.authority.KeepServing("agent", n.NodeName, n.machine.NodeIP.String())
	if err != nil {
		return nil, nil, err
	}
	parts, err := n.machine.parts(events, mgr, identity{
		certificate: certificate.TLS,
		authority:   n.authority.Pool(),
		ofServer:    true,
	})
	return parts, []string{n.NodeName}, err
}

// hollowParts makes the part that is the hollow nodes, and returns it with
// their names.
func (n *node) hollowParts(events context.Context, mgr ctrl.Manager) ([]part, []string, error) {
	recorders := map[string]record.EventRecorder{}
	fleet, err := hollow.NewFleet(hollow.FleetConfig{
		Nodes:      n.HollowNodes,
		PodRange:   n.PodRange,
		DataDir:    n.DataDir,
		Client:     mgr.GetClient(),
		Cache:      mgr.GetCache(),
		Recorder:   func(name string) record.EventRecorder { return recorders[name] },
		Version:    n.Version,
		Kubernetes: apiserver.Version(),
		Log:        n.Log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("--hollow-nodes: %w", err)
	}
	for _, name := range fleet.Names() {
		if recorders[name], err = event.NewRecorder(events, n.api.ClientConfig(), mgr.GetScheme(), "kubelet", name); err != nil {
			return nil, nil, fmt.Errorf("event recorder of node %s: %w", name, err)
		}
	}
	return []part{{"hollow nodes", fleet.Run}}, fleet.Names(), nil
}

// watchStore ends with the reason when the store can take no more writes.
func (n *node) watchStore(ctx context.Context) error {
	select {
	case err := <-n.store.Failed():
		return err
	case <-ctx.Done():
		return nil
	}
}

// PodRanges is how the addresses for pods are shared out to nodes.
type PodRanges = podrange.Ranges

// NewManager makes the manager with all controllers and the scheduler, for an
// API that config leads to and whose authority has the certificate ca, in PEM.
// Its cache is the one that all parts of a process read. Events are written
// until their context ends. Nodes get their share of ranges, unless that is empty.
func NewManager(events context.Context, config *rest.Config, ca []byte, ranges PodRanges) (ctrl.Manager, error) {
	config = rest.CopyConfig(config)
	config.WarningHandlerWithContext = rest.NoWarnings{} // they are for people: this process uses the legacy Endpoints on purpose
	kinds, err := newScheme()
	if err != nil {
		return nil, err
	}
	patience := stopPatience
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                  kinds,
		Metrics:                 server.Options{BindAddress: "0"},
		HealthProbeBindAddress:  "0",
		GracefulShutdownTimeout: &patience,
		Controller:              managerconfig.Controller{SkipNameValidation: ptr.To(true)}, // a process may have more than one manager, one after the other
		Cache:                   cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		// Secrets are read when a pod needs one, not kept.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return nil, fmt.Errorf("make the controllers' manager: %w", err)
	}
	recorderOf := func(component string) (record.EventRecorder, error) {
		recorder, err := event.NewRecorder(events, config, kinds, component, "")
		if err != nil {
			return nil, fmt.Errorf("event recorder of %s: %w", component, err)
		}
		return recorder, nil
	}
	for _, c := range controllers(recorderOf, ca, ranges) {
		recorder, err := recorderOf(c.component)
		if err != nil {
			return nil, err
		}
		if err := c.setup(mgr, recorder); err != nil {
			return nil, fmt.Errorf("set up %s: %w", c.component, err)
		}
	}
	return mgr, nil
}

// controller is one that a manager runs.
type controller struct {
	component string // the source of its events, by Kubernetes' name
	setup     func(manager.Manager, record.EventRecorder) error
}

// controllers lists all, and the scheduler. recorderOf makes the recorder of a component.
func controllers(recorderOf func(string) (record.EventRecorder, error), ca []byte, ranges PodRanges) []controller {
	return []controller{
		{"deployment-controller", deployment.Setup},
		{"replicaset-controller", func(m manager.Manager, sets record.EventRecorder) error {
			replicators, err := recorderOf("replication-controller")
			if err != nil {
				return err
			}
			return replicaset.Setup(m, sets, replicators)
		}},
		{"statefulset-controller", statefulset.Setup},
		{"rolloutrecord-controller", func(m manager.Manager, _ record.EventRecorder) error { return rolloutrecord.Setup(m) }},
		{"default-scheduler", scheduler.Setup},
		{"endpoint-slice-controller", endpointslice.Setup},
		{"endpointslicemirroring-controller", endpointmirror.Setup},
		{"garbage-collector-controller", garbage.Setup},
		{"service-controller", service.Setup},
		{"node-controller", nodecontroller.Setup},
		{"persistentvolume-controller", persistentvolume.Setup},
		{"taint-eviction-controller", tainteviction.Setup},
		{"disruption-controller", disruption.Setup},
		{"endpoint-controller", func(m manager.Manager, _ record.EventRecorder) error { return endpoints.Setup(m) }},
		{"cidrAllocator", func(m manager.Manager, r record.EventRecorder) error {
			if !ranges.Within.IsValid() {
				return nil
			}
			return podrange.Setup(m, r, ranges)
		}},
		{"pod-garbage-collector", func(m manager.Manager, _ record.EventRecorder) error { return podgc.Setup(m) }},
		{"token-cleaner", func(m manager.Manager, _ record.EventRecorder) error { return tokencleaner.Setup(m) }},
		{"namespace-controller", namespace.Setup},
		{"serviceaccount-controller", func(m manager.Manager, _ record.EventRecorder) error {
			return serviceaccount.Setup(m, ca)
		}},
	}
}

// becomeReady says when the parts have begun: the caches are filled, and the
// nodes are Ready in the API.
func (n *node) becomeReady(ctx context.Context, mgr ctrl.Manager, names []string) error {
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	n.progress.reached("controllers")
	for _, name := range names {
		if !awaitNode(ctx, mgr.GetCache(), name) {
			return nil
		}
	}
	n.progress.reached("node")
	n.Log.Info("ready", "after", time.Since(n.began).Round(time.Millisecond).String(), "kubeconfig", filepath.Join(n.DataDir, "kubeconfig"))
	<-ctx.Done()
	return nil
}

// awaitNode waits until a node is Ready in the API; false when ctx ends before.
func awaitNode(ctx context.Context, reader client.Reader, name string) bool {
	for !nodeReady(ctx, reader, name) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}

func nodeReady(ctx context.Context, reader client.Reader, name string) bool {
	var object corev1.Node
	if err := reader.Get(ctx, types.NamespacedName{Name: name}, &object); err != nil {
		return false
	}
	return condition.OfNode(&object, corev1.NodeReady)
}
