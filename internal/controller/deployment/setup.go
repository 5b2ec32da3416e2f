// Package deployment is the controller that carries out the plans of package
// rollout: it reads a Deployment, its ReplicaSets and their pods, asks
// rollout.Decide, and does the steps in order.
//
// It watches pods itself, so that a pod that becomes ready moves the rollout at
// once, without the way through its ReplicaSet's status.
//
// Nothing is done twice. A new ReplicaSet has a name that its template gives, so
// that a second attempt finds the first; a set is scaled by compare-and-swap on
// its replicas, so that a decision that rests on an old number fails; and what
// this process has written is remembered until its cache shows it. A decision
// that failed in this way is made again from what is then. All progress is in
// the API: a process that dies between two steps leaves nothing to repair.
//
// The one thing that the controller changes of what a user wants, as the user
// asked it to, is a Deployment whose rollout has failed: it brings back its
// template, or pauses it, in one write that loses against any other.
package deployment

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
)

const (
	// controllerIndex finds ReplicaSets by the UID of what controls them, or
	// owned.Nobody.
	controllerIndex = "deployment.windlass.dev/controller"

	// workers is how many Deployments are worked on at the same time.
	workers = 4
)

// Setup adds the controller to a manager, which must have the types of
// k8s.io/client-go/kubernetes/scheme. Events go to recorder, in the order of the
// steps.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	ctx := context.Background()
	if err := mgr.GetFieldIndexer().IndexField(ctx, &appsv1.ReplicaSet{}, controllerIndex, owned.ByController); err != nil {
		return fmt.Errorf("index replica sets by controller: %w", err)
	}
	pods, err := owned.Cached(ctx, mgr.GetCache())
	if err != nil {
		return err
	}
	r := &reconciler{
		client:   mgr.GetClient(),
		pods:     pods,
		live:     mgr.GetAPIReader(),
		recorder: recorder,
		now:      time.Now,
		written:  &owned.Written{},
	}
	err = ctrl.NewControllerManagedBy(mgr).
		Named("deployment").
		For(&appsv1.Deployment{}).
		Watches(&appsv1.Deployment{}, loop.Gone(r.written.Forget)).
		Watches(&appsv1.ReplicaSet{}, r.onReplicaSet()).
		Watches(&corev1.Pod{}, r.onPod()).
		Watches(&corev1.Namespace{}, loop.OnFailurePolicy(r.wakeAll)).
		WithOptions(loop.Options(workers)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the deployment controller: %w", err)
	}
	return nil
}
