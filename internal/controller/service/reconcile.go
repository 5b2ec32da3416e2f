package service

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
)

// Setup adds the controller to a manager; it runs once the manager starts.
// Events on Services go to recorder.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	r := &reconciler{client: mgr.GetClient(), recorder: recorder}
	return ctrl.NewControllerManagedBy(mgr).
		Named("service").
		For(&corev1.Service{}).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(r.loadBalancers), builder.WithPredicates(portsChanged)).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.loadBalancers), builder.WithPredicates(addressChanged)).
		Complete(r)
}

// addressChanged lets through the changes of a node that matter here; its
// heartbeats do not.
var addressChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, okBefore := e.ObjectOld.(*corev1.Node)
		after, okAfter := e.ObjectNew.(*corev1.Node)
		return !okBefore || !okAfter || address(before) != address(after)
	},
}

// portsChanged lets through the changes of a Service by which another may come to have
// the nodes' addresses, or lose them.
var portsChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, okBefore := e.ObjectOld.(*corev1.Service)
		after, okAfter := e.ObjectNew.(*corev1.Service)
		return !okBefore || !okAfter || before.Spec.Type != after.Spec.Type || !equality.Semantic.DeepEqual(before.Spec.Ports, after.Spec.Ports) ||
			(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil)
	},
}

type reconciler struct {
	client   client.Client
	recorder record.EventRecorder
}

// Reconcile writes the external addresses of one Service when they changed.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var service corev1.Service
	if err := r.client.Get(ctx, req.NamespacedName, &service); err != nil || service.DeletionTimestamp != nil || foreign(&service) {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var nodes corev1.NodeList
	if err := r.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list nodes: %w", err)
	}
	want := ingress(&service, nodes.Items)
	if len(want) > 0 {
		var all corev1.ServiceList
		if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
			return ctrl.Result{}, fmt.Errorf("list services: %w", err)
		}
		if other, port := rival(&service, all.Items); other != nil {
			want = nil
			r.recorder.Eventf(&service, corev1.EventTypeWarning, "SyncLoadBalancerFailed",
				"Error syncing load balancer: failed to ensure load balancer: port %d/%s of the nodes' addresses is that of Service %s/%s: give one of the two another port",
				port.Port, port.Protocol, other.Namespace, other.Name)
		}
	}
	if equality.Semantic.DeepEqual(service.Status.LoadBalancer.Ingress, want) {
		return ctrl.Result{}, nil
	}
	before := service.DeepCopy()
	service.Status.LoadBalancer.Ingress = want
	if err := r.client.Status().Patch(ctx, &service, loop.IfUnchanged(before)); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(fmt.Errorf("write the load balancer status of Service %s: %w", req, err))
	}
	if len(want) > 0 {
		r.recorder.Event(&service, corev1.EventTypeNormal, "EnsuredLoadBalancer", "Ensured load balancer")
	}
	return ctrl.Result{}, nil
}

// loadBalancers returns all Services that have the nodes' addresses.
func (r *reconciler) loadBalancers(ctx context.Context, _ client.Object) []reconcile.Request {
	return loop.Those(ctx, r.client, &corev1.ServiceList{}, func(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer })
}
