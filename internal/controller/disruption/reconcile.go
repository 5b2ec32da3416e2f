package disruption

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/controller/loop"
)

// Setup adds the controller to a manager; it runs once the manager starts.
// Events on budgets go to recorder.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	r := &reconciler{client: mgr.GetClient(), recorder: recorder, now: time.Now}
	return ctrl.NewControllerManagedBy(mgr).
		Named("disruption").
		For(&policyv1.PodDisruptionBudget{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.budgetsOf)).
		Watches(&appsv1.Deployment{}, handler.EnqueueRequestsFromMapFunc(r.budgetsIn)).
		Watches(&appsv1.ReplicaSet{}, handler.EnqueueRequestsFromMapFunc(r.budgetsIn)).
		Watches(&appsv1.StatefulSet{}, handler.EnqueueRequestsFromMapFunc(r.budgetsIn)).
		Watches(&corev1.ReplicationController{}, handler.EnqueueRequestsFromMapFunc(r.budgetsIn)).
		Complete(r)
}

type reconciler struct {
	client   client.Client
	recorder record.EventRecorder
	now      func() time.Time
}

// budgetsOf returns the budgets that select a pod.
func (r *reconciler) budgetsOf(ctx context.Context, pod client.Object) []reconcile.Request {
	return loop.Those(ctx, r.client, &policyv1.PodDisruptionBudgetList{}, func(b *policyv1.PodDisruptionBudget) bool {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		return err == nil && selector.Matches(labels.Set(pod.GetLabels()))
	}, client.InNamespace(pod.GetNamespace()))
}

// budgetsIn returns the budgets of the namespace of a controller of pods.
func (r *reconciler) budgetsIn(ctx context.Context, object client.Object) []reconcile.Request {
	return loop.Those(ctx, r.client, &policyv1.PodDisruptionBudgetList{}, loop.Any[*policyv1.PodDisruptionBudget], client.InNamespace(object.GetNamespace()))
}

// Reconcile counts the pods of one budget and writes what follows. The write
// fails when the API server has granted an eviction meanwhile: it is counted then.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var budget policyv1.PodDisruptionBudget
	if err := r.client.Get(ctx, req.NamespacedName, &budget); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	pods, err := r.pods(ctx, &budget)
	if err != nil {
		return ctrl.Result{}, err
	}
	controllers := make([]*counted, len(pods))
	for i, pod := range pods {
		if controllers[i], err = r.controllerOf(ctx, pod); err != nil {
			return ctrl.Result{}, err
		}
	}
	now := r.now()
	status, wakeAt := plan(&budget, pods, controllers, now)
	if !equality.Semantic.DeepEqual(status, budget.Status) {
		changed := budget.DeepCopy()
		changed.Status = status
		err := r.client.Status().Update(ctx, changed)
		switch {
		case apierrors.IsConflict(err):
			return ctrl.Result{RequeueAfter: 20 * time.Millisecond}, nil
		case client.IgnoreNotFound(err) != nil:
			return ctrl.Result{}, fmt.Errorf("write the status of PodDisruptionBudget %s: %w", req, err)
		}
		r.tell(&budget, status)
	}
	return loop.Next(ctx, nil, wakeAt, now)
}

// tell tells once of a budget that cannot be worked out.
func (r *reconciler) tell(before *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) {
	for _, c := range status.Conditions {
		if c.Reason == policyv1.SyncFailedReason {
			r.recorder.Eventf(before, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %s", c.Message)
		}
	}
	if status.ExpectedPods == 0 && before.Status.ObservedGeneration != before.Generation {
		r.recorder.Event(before, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
}

// pods returns those that a budget selects and that have not ended.
func (r *reconciler) pods(ctx context.Context, budget *policyv1.PodDisruptionBudget) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		return nil, nil // validation lets none in; it selects nothing
	}
	var list corev1.PodList
	if err := r.client.List(ctx, &list, client.InNamespace(budget.Namespace), client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the pods of PodDisruptionBudget %s/%s: %w", budget.Namespace, budget.Name, err)
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		if !condition.Ended(list.Items[i].Status.Phase) {
			pods = append(pods, &list.Items[i])
		}
	}
	return pods, nil
}

// controllerOf returns who controls a pod and how many it wants, nil for nobody, or
// nobody who is known (yet): what such a pod's budget allows cannot be told.
// A ReplicaSet's Deployment speaks for it.
func (r *reconciler) controllerOf(ctx context.Context, pod *corev1.Pod) (*counted, error) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return nil, nil
	}
	key := client.ObjectKey{Namespace: pod.Namespace, Name: owner.Name}
	found := &counted{Name: string(owner.UID)}
	var err error
	switch owner.Kind {
	case "ReplicaSet":
		var set appsv1.ReplicaSet
		if err = r.client.Get(ctx, key, &set); err != nil {
			break
		}
		found.Pods = ptr.Deref(set.Spec.Replicas, 1)
		if above := metav1.GetControllerOf(&set); above != nil && above.Kind == "Deployment" {
			var deployment appsv1.Deployment
			if err = r.client.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: above.Name}, &deployment); err == nil {
				found.Name, found.Pods = string(above.UID), ptr.Deref(deployment.Spec.Replicas, 1)
			}
		}
	case "ReplicationController":
		var controller corev1.ReplicationController
		if err = r.client.Get(ctx, key, &controller); err == nil {
			found.Pods = ptr.Deref(controller.Spec.Replicas, 1)
		}
	case "StatefulSet":
		var set appsv1.StatefulSet
		if err = r.client.Get(ctx, key, &set); err == nil {
			found.Pods = ptr.Deref(set.Spec.Replicas, 1)
		}
	default:
		found.Err = fmt.Errorf("%s %s: %w", owner.Kind, owner.Name, errUnknownController)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return found, err
}
