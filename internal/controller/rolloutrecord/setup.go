package rolloutrecord

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
)

const (
	// controllerIndex finds ReplicaSets by the UID of what controls them,
	// targetIndex records by that of their target.
	controllerIndex = "rolloutrecord.windlass.dev/controller"
	targetIndex     = "rolloutrecord.windlass.dev/target"

	// workers is how many targets are worked on at the same time.
	workers = 2
)

// Setup adds the controllers of the records of Deployments, StatefulSets and Services to a
// manager, which must have the types of k8s.io/client-go/kubernetes/scheme and of
// api/v1alpha1.
func Setup(mgr ctrl.Manager) error {
	for _, index := range []struct {
		object client.Object
		name   string
		of     client.IndexerFunc
	}{
		{&appsv1.ReplicaSet{}, controllerIndex, owned.ByController},
		{&appsv1.ControllerRevision{}, controllerIndex, owned.ByController},
		{&v1alpha1.RolloutRecord{}, targetIndex, targetOf},
	} {
		if err := mgr.GetFieldIndexer().IndexField(context.Background(), index.object, index.name, index.of); err != nil {
			return fmt.Errorf("index %T: %w", index.object, err)
		}
	}
	pods, err := owned.Cached(context.Background(), mgr.GetCache())
	if err != nil {
		return err
	}
	w := writer{client: mgr.GetClient(), live: mgr.GetAPIReader()}
	if err := setupDeployments(mgr, &reconciler{kind: deployment, client: mgr.GetClient(), pods: pods, writer: w, memory: newMemory(time.Now)}); err != nil {
		return fmt.Errorf("set up the controller of Deployments' records: %w", err)
	}
	if err := setupStatefulSets(mgr, &reconciler{kind: statefulSet, client: mgr.GetClient(), pods: pods, writer: w, memory: newMemory(time.Now)}); err != nil {
		return fmt.Errorf("set up the controller of StatefulSets' records: %w", err)
	}
	if err := setupServices(mgr, newSwitcher(mgr.GetClient(), w, time.Now)); err != nil {
		return fmt.Errorf("set up the controller of Services' records: %w", err)
	}
	return nil
}

func setupDeployments(mgr ctrl.Manager, r *reconciler) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("rolloutrecord").
		Watches(&appsv1.Deployment{}, onTarget(r.memory, saysOf)).
		Watches(&appsv1.ReplicaSet{}, r.onReplicaSet()).
		Watches(&corev1.Pod{}, r.onPod()).
		Watches(&v1alpha1.RolloutRecord{}, r.onRecord()).
		WithOptions(loop.Options(workers)).
		Complete(r)
}

func setupStatefulSets(mgr ctrl.Manager, r *reconciler) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("rolloutrecord-statefulset").
		Watches(&appsv1.StatefulSet{}, onTarget(r.memory, statefulSaysOf)).
		Watches(&appsv1.ControllerRevision{}, r.onRevision()).
		Watches(&corev1.Pod{}, r.onStatefulPod()).
		Watches(&v1alpha1.RolloutRecord{}, r.onRecord()).
		WithOptions(loop.Options(workers)).
		Complete(r)
}

func setupServices(mgr ctrl.Manager, s *switcher) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("rolloutrecord-service").
		Watches(&corev1.Service{}, s.onService()).
		Watches(&discoveryv1.EndpointSlice{}, s.onSlice()).
		WithOptions(loop.Options(workers)).
		Complete(s)
}

func targetOf(object client.Object) []string {
	return []string{string(object.(*v1alpha1.RolloutRecord).Spec.Target.UID)}
}
