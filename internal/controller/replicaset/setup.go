// Package replicaset is the controller that keeps as many pods as a ReplicaSet or
// a ReplicationController asks for: one engine for both.
//
// Decide, which is pure, says which pods to adopt, release, make and delete;
// StatusOf, which is too, what to report. The rest reads, does it, and writes.
//
// It never makes two pods for one need. Before a pod is made, its name, chosen
// here, is noted in memory, and so is each pod that is deleted. Every look at the
// pods lays these notes over what the cache shows, and a note is dropped only
// when the cache's watch has delivered the pod. So a late cache cannot hide a pod
// that this process has made. Where the outcome of a create is not known (a
// timeout, a lost connection), the note stays and the name is looked up in the
// API after a while. Only one worker is at a set at a time. A process that starts
// compares its cache with the API once, before its first decision, and notes what
// the cache does not show of the writes of the process before it.
package replicaset

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
)

const (
	// controllerIndex finds sets by the UID of what controls them.
	controllerIndex = "replicaset.windlass.dev/controller"

	// workers is how many sets of a kind are worked on at the same time.
	workers = 4
)

// Setup adds the controllers of ReplicaSets and of ReplicationControllers to a
// manager, which must have the types of k8s.io/client-go/kubernetes/scheme.
// Events of ReplicaSets go to sets, those of ReplicationControllers to replicators.
func Setup(mgr ctrl.Manager, sets, replicators record.EventRecorder) error {
	ctx := context.Background()
	for _, object := range []client.Object{&appsv1.ReplicaSet{}, &corev1.ReplicationController{}} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, object, controllerIndex, owned.ByController); err != nil {
			return fmt.Errorf("index %T by controller: %w", object, err)
		}
	}
	pods, err := owned.Cached(ctx, mgr.GetCache())
	if err != nil {
		return err
	}
	for _, engine := range []struct {
		kind     kind
		recorder record.EventRecorder
	}{{replicaSets, sets}, {replicationControllers, replicators}} {
		kind := engine.kind
		r := &reconciler{
			kind:     kind,
			client:   mgr.GetClient(),
			pods:     pods,
			live:     mgr.GetAPIReader(),
			recorder: engine.recorder,
			now:      time.Now,
			random:   rand.IntN,
			written:  newMemory(),
		}
		err := ctrl.NewControllerManagedBy(mgr).
			Named(strings.ToLower(kind.Kind)).
			For(kind.object()).
			Watches(kind.object(), loop.Gone(func(set client.Object) { r.written.forget(set.GetUID()) })).
			Watches(&corev1.Pod{}, r.onPod()).
			WithOptions(loop.Options(workers)).
			Complete(r)
		if err != nil {
			return fmt.Errorf("set up the %s controller: %w", kind.Kind, err)
		}
	}
	return nil
}
