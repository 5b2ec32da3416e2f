package endpointslice

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
)

// workers is how many Services are reconciled at a time.
const workers = 4

// retry is how soon a write that lost a race is planned again.
const retry = 5 * time.Millisecond

// Setup adds the controller to a manager; it runs once the manager starts.
// Events on Services go to recorder. It returns the manager's error when the
// name "endpointslice" is taken.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	r := &reconciler{client: mgr.GetClient(), recorder: recorder, memory: newMemory()}
	return ctrl.NewControllerManagedBy(mgr).
		Named("endpointslice").
		For(&corev1.Service{}).
		Watches(&corev1.Pod{}, r.podHandler()).
		Watches(&discoveryv1.EndpointSlice{}, r.sliceHandler()).
		Watches(&corev1.Node{}, r.nodeHandler()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retry, 10*time.Second),
		}).
		Complete(r)
}

// reconciler brings one Service's slices in line with its pods.
type reconciler struct {
	client   client.Client
	recorder record.EventRecorder
	memory   *memory
}

// Reconcile reads a Service, its pods and its slices, plans, and writes.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var service corev1.Service
	if err := r.client.Get(ctx, req.NamespacedName, &service); err != nil {
		if apierrors.IsNotFound(err) {
			r.memory.forget(req.NamespacedName) // the garbage collector takes the slices
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if service.DeletionTimestamp != nil || service.Spec.Selector == nil && service.Spec.Type != corev1.ServiceTypeExternalName {
		return ctrl.Result{}, nil
	}
	pods, zones, err := r.pods(ctx, &service)
	if err != nil {
		return ctrl.Result{}, err
	}
	existing, err := r.slices(ctx, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	for _, act := range plan(&service, pods, zones, existing) {
		log.FromContext(ctx).V(1).Info("Writing an EndpointSlice", "verb", act.Verb, "slice", act.Slice.Name, "why", act.Why)
		err := r.do(ctx, req.NamespacedName, act)
		switch {
		case err == nil:
		case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
			r.memory.forget(req.NamespacedName)
			return ctrl.Result{RequeueAfter: retry}, nil
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return ctrl.Result{}, nil
		default:
			r.recorder.Eventf(&service, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
				"Error updating Endpoint Slices for Service %s: %v", req.NamespacedName, err)
			return ctrl.Result{}, fmt.Errorf("%s EndpointSlice %q: %w", act.Verb, act.Slice.Name, err)
		}
	}
	return ctrl.Result{}, nil
}

// do makes one write and remembers its result.
func (r *reconciler) do(ctx context.Context, service types.NamespacedName, a act) error {
	slice := a.Slice.DeepCopy()
	var err error
	switch a.Verb {
	case create:
		err = r.client.Create(ctx, slice)
	case update:
		err = r.client.Update(ctx, slice)
	case remove:
		err = client.IgnoreNotFound(r.client.Delete(ctx, slice, client.Preconditions{UID: &slice.UID}))
	}
	if err == nil {
		r.memory.wrote(service, slice, a.Verb == remove)
	}
	return err
}

// pods returns the pods that a Service selects and the zones of their nodes.
func (r *reconciler) pods(ctx context.Context, service *corev1.Service) ([]*corev1.Pod, map[string]string, error) {
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, nil, nil
	}
	var list corev1.PodList
	err := r.client.List(ctx, &list, client.InNamespace(service.Namespace),
		client.MatchingLabels(service.Spec.Selector), client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, nil, fmt.Errorf("list the pods of Service %s/%s: %w", service.Namespace, service.Name, err)
	}
	pods := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	var nodes corev1.NodeList
	if err := r.client.List(ctx, &nodes, client.HasLabels{corev1.LabelTopologyZone}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, fmt.Errorf("list the nodes with a zone: %w", err)
	}
	zones := make(map[string]string, len(nodes.Items))
	for i := range nodes.Items {
		zones[nodes.Items[i].Name] = nodes.Items[i].Labels[corev1.LabelTopologyZone]
	}
	return pods, zones, nil
}

// slices returns the slices of a Service that this controller manages, as they
// were last written.
func (r *reconciler) slices(ctx context.Context, service types.NamespacedName) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := r.client.List(ctx, &list, client.InNamespace(service.Namespace), client.MatchingLabels{
		discoveryv1.LabelServiceName: service.Name,
		discoveryv1.LabelManagedBy:   managedBy,
	}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list the slices of Service %s: %w", service, err)
	}
	cached := make([]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		cached[i] = &list.Items[i]
	}
	return r.memory.overlay(service, cached), nil
}

// servicesOf returns the Services that select one of the label sets.
func (r *reconciler) servicesOf(ctx context.Context, namespace string, sets ...labels.Set) []reconcile.Request {
	return loop.Those(ctx, r.client, &corev1.ServiceList{}, func(service *corev1.Service) bool {
		selector := labels.SelectorFromSet(service.Spec.Selector)
		return service.Spec.Selector != nil && slices.ContainsFunc(sets, func(set labels.Set) bool { return selector.Matches(set) })
	}, client.InNamespace(namespace))
}
