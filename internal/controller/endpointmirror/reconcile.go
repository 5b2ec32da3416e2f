package endpointmirror

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
)

// Setup adds the controller to a manager; it runs once the manager starts.
// Events on Endpoints go to recorder.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("endpointmirror").
		For(&corev1.Service{}).
		Watches(&corev1.Endpoints{}, handler.EnqueueRequestsFromMapFunc(sameName)).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(mirrorOf)).
		Complete(&reconciler{client: mgr.GetClient(), recorder: recorder})
}

// sameName: Endpoints have the name of their Service.
func sameName(_ context.Context, endpoints client.Object) []reconcile.Request {
	return []reconcile.Request{loop.For(endpoints)}
}

func mirrorOf(_ context.Context, slice client.Object) []reconcile.Request {
	if slice.GetLabels()[discoveryv1.LabelManagedBy] != managedBy {
		return nil
	}
	return []reconcile.Request{loop.Named(slice.GetNamespace(), slice.GetLabels()[discoveryv1.LabelServiceName])}
}

type reconciler struct {
	client   client.Client
	recorder record.EventRecorder
}

// Reconcile reads a Service, its Endpoints and their slices, plans, and writes.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	service, endpoints := &corev1.Service{}, &corev1.Endpoints{}
	if err := r.client.Get(ctx, req.NamespacedName, service); apierrors.IsNotFound(err) {
		service = nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	if service != nil && len(service.Spec.Selector) > 0 && service.DeletionTimestamp == nil {
		endpoints = nil // another's, and there are many: not worth the look
	} else if err := r.client.Get(ctx, req.NamespacedName, endpoints); apierrors.IsNotFound(err) {
		endpoints = nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	var existing discoveryv1.EndpointSliceList
	if err := r.client.List(ctx, &existing, client.InNamespace(req.Namespace), client.MatchingLabels{
		discoveryv1.LabelServiceName: req.Name, discoveryv1.LabelManagedBy: managedBy,
	}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list the mirrored slices of Service %s: %w", req, err)
	}
	err := r.do(ctx, plan(service, endpoints, existing.Items))
	switch {
	case err == nil, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ctrl.Result{}, nil
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return ctrl.Result{Requeue: true}, nil // with its growing pause, until the cache has caught up
	}
	if endpoints != nil {
		r.recorder.Eventf(endpoints, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error mirroring Endpoints %s to EndpointSlices: %v", req, err)
	}
	return ctrl.Result{}, err
}

func (r *reconciler) do(ctx context.Context, w work) error {
	for _, slice := range w.write {
		write := func() error { return r.client.Create(ctx, slice) }
		if slice.ResourceVersion != "" {
			write = func() error { return r.client.Update(ctx, slice) }
		}
		if err := write(); err != nil {
			return fmt.Errorf("write EndpointSlice %s/%s: %w", slice.Namespace, slice.Name, err)
		}
	}
	for _, slice := range w.remove {
		if err := r.client.Delete(ctx, slice, client.Preconditions{UID: &slice.UID}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete EndpointSlice %s/%s: %w", slice.Namespace, slice.Name, err)
		}
	}
	return nil
}
