package tainteviction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-helpers/node/topology"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/controller/loop"
)

// heldPause is how often a node's pods are looked at while its trouble is not held
// against it.
const heldPause = 5 * time.Second

// Setup adds the controller to a manager; it runs once the manager starts.
// Events on pods go to recorder.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	vigil, err := loop.KeepVigil(mgr)
	if err != nil {
		return err
	}
	r := &reconciler{client: mgr.GetClient(), recorder: recorder, now: time.Now, vigil: vigil, held: map[string]time.Time{}}
	return ctrl.NewControllerManagedBy(mgr).
		Named("tainteviction").
		For(&corev1.Node{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Node)
			after, too := e.ObjectNew.(*corev1.Node)
			return !ok || !too || !equality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints) || condition.OfNode(before, corev1.NodeReady) != condition.OfNode(after, corev1.NodeReady)
		}})).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.taintedNodeOf), builder.WithPredicates(predicate.Funcs{
			UpdateFunc: func(e event.UpdateEvent) bool {
				before, ok := e.ObjectOld.(*corev1.Pod)
				after, too := e.ObjectNew.(*corev1.Pod)
				return !ok || !too || before.Spec.NodeName != after.Spec.NodeName || len(before.Spec.Tolerations) != len(after.Spec.Tolerations)
			},
			DeleteFunc: func(event.DeleteEvent) bool { return false },
		})).
		Complete(r)
}

// reconciler has one worker. What it remembers may be lost: pods then have their time
// anew, as after any break of the vigil.
type reconciler struct {
	client   client.Client
	recorder record.EventRecorder
	now      func() time.Time
	vigil    *loop.Vigil
	held     map[string]time.Time // when the trouble of a zone's nodes was last not held against them
}

// patience judges how much of the trouble of a node of a zone counts: nothing before
// this process looked on, and nothing while it is rather the way to the nodes that is
// lost, nor what there was of it till then.
func (r *reconciler) patience(zones map[string]zone, key string, now time.Time) patience {
	p := patience{Held: held(zones, key), Since: r.vigil.Since(now)}
	if p.Held {
		r.held[key] = now
	}
	if last := r.held[key]; last.After(p.Since) {
		p.Since = last
	}
	return p
}

// taintedNodeOf asks for a pod's node, if that has a taint that concerns its pods.
func (r *reconciler) taintedNodeOf(ctx context.Context, pod client.Object) []reconcile.Request {
	var node corev1.Node
	name := pod.(*corev1.Pod).Spec.NodeName
	if name == "" || r.client.Get(ctx, client.ObjectKey{Name: name}, &node) != nil || !slices.ContainsFunc(node.Spec.Taints, noExecute) {
		return nil
	}
	return []reconcile.Request{loop.Named("", name)}
}

func noExecute(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute }

// Reconcile looks at the pods of one node.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var nodes corev1.NodeList
	if err := r.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list nodes: %w", err)
	}
	at := slices.IndexFunc(nodes.Items, func(n corev1.Node) bool { return n.Name == req.Name })
	if at < 0 || !slices.ContainsFunc(nodes.Items[at].Spec.Taints, noExecute) {
		return ctrl.Result{}, nil
	}
	node := &nodes.Items[at]
	pods, err := r.podsOn(ctx, node.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.now()
	p := r.patience(zonesOf(nodes.Items), topology.GetZoneKey(node), now)
	evictions, wakeAt := plan(node, pods, p, now)
	slices.SortStableFunc(evictions, byPriority)
	var failed []error
	for _, e := range evictions {
		failed = append(failed, r.evict(ctx, node, e))
	}
	if p.Held { // until others are ready, which is no event of this node
		wakeAt = now.Add(heldPause)
	}
	return loop.Next(ctx, errors.Join(failed...), wakeAt, now)
}

func (r *reconciler) podsOn(ctx context.Context, node string) ([]*corev1.Pod, error) {
	var list corev1.PodList
	if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		if list.Items[i].Spec.NodeName == node {
			pods = append(pods, &list.Items[i])
		}
	}
	return pods, nil
}

// evict says in a pod's status why it goes, and deletes it.
func (r *reconciler) evict(ctx context.Context, node *corev1.Node, e eviction) error {
	key := client.ObjectKeyFromObject(e.Pod)
	log.FromContext(ctx).Info("Evicting a pod", "pod", key, "why", e.Why)
	pod := e.Pod.DeepCopy()
	condition.Set(pod, condition.Disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", r.now()))
	if e.Lost {
		pod.Status.Reason = "NodeLost"
		pod.Status.Message = fmt.Sprintf("Node %s which was running pod %s is unresponsive", node.Name, pod.Name)
	}
	if err := r.client.Status().Patch(ctx, pod, loop.IfUnchanged(e.Pod)); err != nil {
		return loop.Stale(fmt.Errorf("say in the status of pod %s why it goes: %w", key, err))
	}
	r.recorder.Eventf(e.Pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", key)
	err := r.client.Delete(ctx, pod, client.Preconditions{UID: &e.Pod.UID})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("evict pod %s: %w", key, err)
	}
	return nil
}
