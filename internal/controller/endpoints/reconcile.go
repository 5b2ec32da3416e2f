package endpoints

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
)

// settle is how long changes of a Service are gathered: nobody's traffic waits
// for this object, so a rollout need not write it at every pod.
const settle = 100 * time.Millisecond

// Setup adds the controller to a manager; it runs once the manager starts.
func Setup(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("endpoints").
		For(&corev1.Service{}).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(serviceOf)).
		Complete(&reconciler{client: mgr.GetClient(), gathering: map[types.NamespacedName]time.Time{}})
}

func serviceOf(_ context.Context, slice client.Object) []reconcile.Request {
	name := slice.GetLabels()[discoveryv1.LabelServiceName]
	if name == "" {
		return nil
	}
	return []reconcile.Request{loop.Named(slice.GetNamespace(), name)}
}

// reconciler brings one Service's Endpoints in line with its slices. It has
// one worker, so gathering needs no lock.
type reconciler struct {
	client    client.Client
	gathering map[types.NamespacedName]time.Time // when a Service's changes may be written
}

// Reconcile reads a Service and its slices and writes its Endpoints when they
// differ.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if wait := r.wait(req.NamespacedName); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	var service corev1.Service
	if err := r.client.Get(ctx, req.NamespacedName, &service); apierrors.IsNotFound(err) {
		return ctrl.Result{}, r.remove(ctx, req.NamespacedName)
	} else if err != nil {
		return ctrl.Result{}, err
	}
	if service.DeletionTimestamp != nil || service.Spec.Selector == nil || service.Spec.Type == corev1.ServiceTypeExternalName {
		return ctrl.Result{}, nil
	}
	var slices discoveryv1.EndpointSliceList
	if err := r.client.List(ctx, &slices, client.InNamespace(req.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: req.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list the slices of Service %s: %w", req, err)
	}
	err := r.write(ctx, desired(&service, slices.Items))
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return ctrl.Result{RequeueAfter: settle}, nil
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, err
}

// wait returns how long to let a Service's changes gather before they are
// written; zero when it has been waited for.
func (r *reconciler) wait(service types.NamespacedName) time.Duration {
	now := time.Now()
	due, ok := r.gathering[service]
	if !ok {
		due = now.Add(settle)
		r.gathering[service] = due
	}
	if now.Before(due) {
		return due.Sub(now)
	}
	delete(r.gathering, service)
	return 0
}

func (r *reconciler) write(ctx context.Context, want *corev1.Endpoints) error {
	var have corev1.Endpoints
	err := r.client.Get(ctx, client.ObjectKeyFromObject(want), &have)
	if apierrors.IsNotFound(err) {
		if err := r.client.Create(ctx, want); err != nil {
			return fmt.Errorf("create the Endpoints of Service %s/%s: %w", want.Namespace, want.Name, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	changed := have.DeepCopy()
	changed.Subsets = want.Subsets
	changed.Labels = want.Labels
	if want.Annotations[corev1.EndpointsOverCapacity] == "" {
		delete(changed.Annotations, corev1.EndpointsOverCapacity)
	} else {
		changed.Annotations = want.Annotations
	}
	if equality.Semantic.DeepEqual(&have, changed) {
		return nil
	}
	if err := r.client.Update(ctx, changed); err != nil {
		return fmt.Errorf("update the Endpoints of Service %s/%s: %w", want.Namespace, want.Name, err)
	}
	return nil
}

// remove deletes the Endpoints of a Service that is gone.
func (r *reconciler) remove(ctx context.Context, service types.NamespacedName) error {
	endpoints := &corev1.Endpoints{}
	endpoints.Namespace, endpoints.Name = service.Namespace, service.Name
	if err := r.client.Delete(ctx, endpoints); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete the Endpoints of Service %s: %w", service, err)
	}
	return nil
}
