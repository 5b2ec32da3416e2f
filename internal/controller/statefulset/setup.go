// Package statefulset is the controller that carries out the plans that package
// rollout makes for StatefulSets: it reads a set, its revisions, pods and claims,
// asks rollout.DecideStateful, and does the steps in order.
//
// There is at most one pod of a name. A pod's name says which it is, so the API
// refuses a second one; a pod is only ever deleted with its own grace period, so
// that its object is there until its node has said that it has stopped; and what
// is deleted is the very pod that the plan looked at, as it looked at it.
//
// The cache only says when to look. A plan that makes or deletes a pod, or says
// what a claim goes with, is made again from what the API says, and that one is
// carried out: nothing is deleted on the word of a cache. All progress is in the
// API: a process that dies between two steps leaves nothing to repair.
//
// As for a Deployment, the one thing that the controller changes of what a user
// wants, as the user asked it to, is a set whose rollout has failed.
package statefulset

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
	// controllerIndex finds revisions by the UID of what controls them, or
	// owned.Nobody.
	controllerIndex = "statefulset.windlass.dev/controller"

	// workers is how many sets are worked on at the same time.
	workers = 4
)

// Setup adds the controller to a manager, which must have the types of
// k8s.io/client-go/kubernetes/scheme. Events go to recorder, in the order of the
// steps.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	ctx := context.Background()
	if err := mgr.GetFieldIndexer().IndexField(ctx, &appsv1.ControllerRevision{}, controllerIndex, owned.ByController); err != nil {
		return fmt.Errorf("index controller revisions by controller: %w", err)
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
		Named("statefulset").
		For(&appsv1.StatefulSet{}).
		Watches(&appsv1.StatefulSet{}, loop.Gone(r.written.Forget)).
		Watches(&appsv1.ControllerRevision{}, r.onRevision()).
		Watches(&corev1.Pod{}, r.onPod()).
		Watches(&corev1.PersistentVolumeClaim{}, r.onClaim()).
		Watches(&corev1.Namespace{}, loop.OnFailurePolicy(r.wakeAll)).
		WithOptions(loop.Options(workers)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the statefulset controller: %w", err)
	}
	return nil
}
