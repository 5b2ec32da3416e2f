package node

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Setup adds the controller to a manager; it runs once the manager starts.
// Events on nodes go to recorder.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("node").
		For(&corev1.Node{}).
		Complete(&reconciler{client: mgr.GetClient(), recorder: recorder, now: time.Now, listening: time.Now()})
}

type reconciler struct {
	client    client.Client
	recorder  record.EventRecorder
	now       func() time.Time
	listening time.Time // when this process began
}

// Reconcile looks at one node and its Lease, and writes what the node's agent
// can no longer say.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var node corev1.Node
	if err := r.client.Get(ctx, req.NamespacedName, &node); err != nil || node.DeletionTimestamp != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	lease, err := r.lease(ctx, node.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.now()
	d := plan(&node, lease, r.listening, now)
	if err := r.write(ctx, &node, d); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return ctrl.Result{RequeueAfter: 50 * time.Millisecond}, nil
		}
		return ctrl.Result{}, err
	}
	if d.WakeAt.IsZero() {
		return ctrl.Result{RequeueAfter: gracePeriod}, nil
	}
	return ctrl.Result{RequeueAfter: max(d.WakeAt.Sub(now), time.Millisecond)}, nil
}

// lease reads the node's Lease; none is no error.
func (r *reconciler) lease(ctx context.Context, node string) (*coordinationv1.Lease, error) {
	var lease coordinationv1.Lease
	err := r.client.Get(ctx, types.NamespacedName{Namespace: corev1.NamespaceNodeLease, Name: node}, &lease)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the Lease of node %s: %w", node, err)
	}
	return &lease, nil
}

func (r *reconciler) write(ctx context.Context, node *corev1.Node, d decision) error {
	if d.Lost {
		before := node.DeepCopy()
		node.Status.Conditions = d.Conditions
		if err := r.client.Status().Patch(ctx, node, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("write the status of node %s: %w", node.Name, err)
		}
		r.recorder.Eventf(node, corev1.EventTypeWarning, "NodeNotReady", "Node %s status is now: NodeNotReady: %s", node.Name, d.Why)
	}
	if d.Retaint {
		before := node.DeepCopy()
		node.Spec.Taints = d.Taints
		if err := r.client.Patch(ctx, node, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("write the taints of node %s: %w", node.Name, err)
		}
	}
	return nil
}
