package podrange

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
)

// tryAgain is the wait when no range was left, or a write came too late.
const tryAgain = 5 * time.Second

// Setup adds the controller to a manager; it runs once the manager starts.
// Events on nodes go to recorder.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder, ranges Ranges) error {
	r := &reconciler{client: mgr.GetClient(), reader: mgr.GetAPIReader(), recorder: recorder, ranges: ranges}
	// One key for all nodes: ranges are given by one hand, one after the other.
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{{}} })
	lacking := predicate.NewPredicateFuncs(func(object client.Object) bool {
		node, ok := object.(*corev1.Node)
		return ok && node.Spec.PodCIDR == ""
	})
	return ctrl.NewControllerManagedBy(mgr).Named("podrange").Watches(&corev1.Node{}, all, builder.WithPredicates(lacking)).Complete(r)
}

type reconciler struct {
	client   client.Client
	reader   client.Reader // of the API itself: the cache may not have the range that was given last
	recorder record.EventRecorder
	ranges   Ranges
}

// Reconcile gives ranges to the nodes that have none.
func (r *reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var list corev1.NodeList
	if err := r.reader.List(ctx, &list); err != nil {
		return ctrl.Result{}, fmt.Errorf("list nodes: %w", err)
	}
	nodes := map[string]*corev1.Node{}
	var all []*corev1.Node
	for i := range list.Items {
		nodes[list.Items[i].Name] = &list.Items[i]
		all = append(all, &list.Items[i])
	}
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list pods: %w", err)
	}
	d := plan(r.ranges, all, pods.Items)
	var result ctrl.Result
	for _, give := range d.Give {
		node := nodes[give.Node]
		before := node.DeepCopy()
		node.Spec.PodCIDR, node.Spec.PodCIDRs = give.Range.String(), []string{give.Range.String()}
		err := r.client.Patch(ctx, node, loop.IfUnchanged(before))
		switch {
		case apierrors.IsConflict(err), apierrors.IsNotFound(err):
			result.RequeueAfter = 20 * time.Millisecond
		case err != nil:
			return ctrl.Result{}, fmt.Errorf("give node %s the pod range %s: %w", give.Node, give.Range, err)
		}
	}
	for _, name := range d.None {
		r.recorder.Eventf(nodes[name], corev1.EventTypeWarning, "CIDRNotAvailable",
			"Node %s status is now: CIDRNotAvailable: all ranges of %s are other nodes' or have pods still; delete the Nodes of machines that are no more", name, r.ranges.Within)
		result.RequeueAfter = tryAgain
	}
	return result, nil
}
