package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
)

// Setup adds the controller to a manager; it runs once the manager starts.
// Events on nodes go to recorder.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	vigil, err := loop.KeepVigil(mgr)
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("node").
		For(&corev1.Node{}).
		Watches(&coordinationv1.Lease{}, handler.EnqueueRequestsFromMapFunc(nodeOf)).
		Complete(&reconciler{client: mgr.GetClient(), recorder: recorder, now: time.Now, vigil: vigil, renewals: map[string]renewal{}})
}

func nodeOf(_ context.Context, lease client.Object) []reconcile.Request {
	if lease.GetNamespace() != corev1.NamespaceNodeLease {
		return nil
	}
	return []reconcile.Request{loop.Named("", lease.GetName())}
}

// reconciler has one worker, so that what it remembers needs no lock. It may
// forget: nobody can have been heard while nobody listened, so no node counts as
// silent since before the vigil began.
type reconciler struct {
	client   client.Client
	recorder record.EventRecorder
	now      func() time.Time
	vigil    *loop.Vigil // since when this process listens
	renewals map[string]renewal
}

// renewal is a node's sign of life.
type renewal struct {
	said  time.Time // in the Lease, by the node's clock
	heard time.Time // by ours
}

// heard returns when a node was last heard, by the clock of this process, or since
// when that has listened without hearing it.
func (r *reconciler) heard(node *corev1.Node, lease *coordinationv1.Lease, now time.Time) time.Time {
	listening := r.vigil.Since(now)
	last, known := r.renewals[node.Name]
	if made := node.CreationTimestamp.Time; !known && made.After(listening) {
		if last.heard = made; made.After(now) { // the clock was set back since
			last.heard = now
		}
	}
	if lease != nil && lease.Spec.RenewTime != nil && !lease.Spec.RenewTime.Time.Equal(last.said) {
		if known {
			last.heard = now
		}
		last.said = lease.Spec.RenewTime.Time
	}
	r.renewals[node.Name] = last
	if last.heard.Before(listening) {
		return listening
	}
	return last.heard
}

// Reconcile looks at one node and its Lease, and writes what the node's agent
// can no longer say.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var node corev1.Node
	now := r.now()
	if err := r.client.Get(ctx, req.NamespacedName, &node); err != nil {
		delete(r.renewals, req.Name)
		if apierrors.IsNotFound(err) { // and no packet finds the way to its pods
			err = r.silence(ctx, req.Name, now)
		}
		return ctrl.Result{}, err
	}
	lease, err := r.lease(ctx, node.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	d := plan(&node, lease, r.heard(&node, lease, now), now)
	if err := r.write(ctx, &node, d); err != nil {
		return loop.Next(ctx, loop.Stale(err), time.Time{}, now)
	}
	if d.Silent {
		if err := r.silence(ctx, node.Name, now); err != nil {
			return ctrl.Result{}, err
		}
	}
	if d.WakeAt.IsZero() {
		return ctrl.Result{RequeueAfter: graceOf(lease)}, nil
	}
	return loop.Next(ctx, nil, d.WakeAt, now)
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

// silence makes the pods of a node that is gone or whose agent is silent unready, so that no
// proxy sends them anything. An agent that comes back says otherwise.
func (r *reconciler) silence(ctx context.Context, node string, now time.Time) error {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var failed []error
	for i := range pods.Items {
		seen := &pods.Items[i]
		conditions := unready(seen, now)
		if seen.Spec.NodeName != node || conditions == nil {
			continue
		}
		pod := seen.DeepCopy()
		pod.Status.Conditions = conditions
		err := r.client.Status().Patch(ctx, pod, loop.IfUnchanged(seen))
		if client.IgnoreNotFound(err) != nil {
			failed = append(failed, fmt.Errorf("write that pod %s/%s is not ready: %w", pod.Namespace, pod.Name, err))
			continue
		}
		r.recorder.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return errors.Join(failed...)
}

func (r *reconciler) write(ctx context.Context, node *corev1.Node, d decision) error {
	if d.Lost {
		before := node.DeepCopy()
		node.Status.Conditions = d.Conditions
		if err := r.client.Status().Patch(ctx, node, loop.IfUnchanged(before)); err != nil {
			return fmt.Errorf("write the status of node %s: %w", node.Name, err)
		}
		r.recorder.Eventf(node, corev1.EventTypeWarning, "NodeNotReady", "Node %s status is now: NodeNotReady: %s", node.Name, d.Why)
	}
	if d.Retaint {
		before := node.DeepCopy()
		node.Spec.Taints = d.Taints
		if err := r.client.Patch(ctx, node, loop.IfUnchanged(before)); err != nil {
			return fmt.Errorf("write the taints of node %s: %w", node.Name, err)
		}
	}
	return nil
}
