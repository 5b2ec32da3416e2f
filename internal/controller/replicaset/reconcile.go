package replicaset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// unseenAfter is how long the cache may take to show a pod that was made, before
// the pod is looked up in the API.
const unseenAfter = 10 * time.Second

type reconciler struct {
	kind     kind
	client   client.Client // reads from the cache
	pods     owned.Pods
	live     client.Reader // reads from the API
	recorder record.EventRecorder
	now      func() time.Time
	random   func(int) int // a number from 0 up to, not including, the argument
	written  *memory
	takeover takeover
	pace     owned.Pace
}

// Reconcile looks at a set and its pods, does what is to be done, and reports.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if err := r.takeOver(ctx); err != nil {
		return ctrl.Result{}, fmt.Errorf("take over: %w", err)
	}
	if wait := r.pace.Wait(request.NamespacedName, r.now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	set, err := r.read(ctx, request.NamespacedName)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if r.written.isBehind(set.Object) {
		return ctrl.Result{}, nil
	}
	unseen, err := r.lookUpUnseen(ctx, set)
	if err != nil {
		return ctrl.Result{}, err
	}
	snapshot, err := r.look(ctx, set)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.pace.Looked(request.NamespacedName, len(snapshot.Pods), snapshot.Now)
	plan := Decide(snapshot)
	if n := len(plan.Delete); n > 0 && set.Replicas > 0 {
		if snapshot.Siblings, err = r.siblings(ctx, set); err != nil {
			return ctrl.Result{}, err
		}
		plan = Decide(snapshot)
	}
	log.FromContext(ctx).V(1).Info("Decided", "create", plan.Create, "delete", len(plan.Delete), "why", plan.Why)
	failed := r.carryOut(ctx, set, plan)
	if errors.Is(failed, loop.ErrStale) {
		return loop.Next(ctx, failed, time.Time{}, snapshot.Now)
	}

	if snapshot, err = r.look(ctx, set); err != nil {
		return ctrl.Result{}, errors.Join(failed, err)
	}
	status, wakeAt := StatusOf(snapshot, r.failure(plan, failed))
	if err := r.report(ctx, set, status); err != nil {
		return ctrl.Result{}, errors.Join(failed, err)
	}
	if failed != nil {
		return ctrl.Result{}, failed
	}
	return ctrl.Result{RequeueAfter: r.wakeAfter(plan.More, unseen, wakeAt)}, nil
}

// wakeAfter is how long to wait for events before looking again; zero for ever.
func (r *reconciler) wakeAfter(more, unseen bool, at time.Time) time.Duration {
	var after time.Duration
	if unseen {
		after = unseenAfter
	}
	if !at.IsZero() {
		if until := loop.Until(at, r.now()); after == 0 || until < after {
			after = until
		}
	}
	if more {
		after = time.Nanosecond
	}
	return after
}

func (r *reconciler) read(ctx context.Context, key types.NamespacedName) (Set, error) {
	object := r.kind.object()
	if err := r.client.Get(ctx, key, object); err != nil {
		return Set{}, err
	}
	return r.kind.read(object)
}

// look reads the pods of a set, with what this process has done to them.
func (r *reconciler) look(ctx context.Context, set Set) (Snapshot, error) {
	s := Snapshot{Set: set, Now: r.now()}
	overlay := r.written.overlay(set.Object.GetUID(), s.Now)
	mine, err := r.pods(ctx, set.Object.GetNamespace(), set.Object.GetUID())
	if err != nil {
		return s, err
	}
	orphans, err := r.pods(ctx, set.Object.GetNamespace(), owned.Nobody)
	if err != nil {
		return s, err
	}
	s.Pods = append(overlay(mine), orphans...)
	return s, nil
}

// siblings reads the active pods of all sets that have the controller of this
// one; only its own if it has none.
func (r *reconciler) siblings(ctx context.Context, set Set) ([]*corev1.Pod, error) {
	sets := []client.Object{set.Object}
	if owner := metav1.GetControllerOf(set.Object); owner != nil {
		list := r.kind.list()
		err := r.client.List(ctx, list, client.InNamespace(set.Object.GetNamespace()),
			client.MatchingFields{controllerIndex: string(owner.UID)}, client.UnsafeDisableDeepCopy)
		if err != nil {
			return nil, fmt.Errorf("list sibling sets: %w", err)
		}
		sets = r.kind.each(list)
	}
	var active []*corev1.Pod
	for _, sibling := range sets {
		pods, err := r.pods(ctx, sibling.GetNamespace(), sibling.GetUID())
		if err != nil {
			return nil, err
		}
		for _, pod := range pods {
			if rollout.StateOf(pod).Active {
				active = append(active, pod)
			}
		}
	}
	return active, nil
}

// lookUpUnseen asks the API for pods that were made long ago and that the cache
// has never shown, and drops the note of those that do not exist. It says whether
// there are pods that the cache has yet to show.
func (r *reconciler) lookUpUnseen(ctx context.Context, set Set) (bool, error) {
	names, later := r.written.overdue(set.Object.GetUID(), r.now().Add(-unseenAfter))
	for _, name := range names {
		var pod corev1.Pod
		err := r.live.Get(ctx, client.ObjectKey{Namespace: set.Object.GetNamespace(), Name: name}, &pod)
		switch {
		case apierrors.IsNotFound(err):
			r.written.notMade(set.Object.GetUID(), name)
		case err != nil:
			return false, fmt.Errorf("look up pod %s: %w", name, err)
		default:
			later = true
		}
	}
	return later, nil
}

// failure makes a condition of the error that a plan ended with.
func (r *reconciler) failure(plan Plan, err error) *Failure {
	if err == nil {
		return nil
	}
	f := &Failure{Reason: ReasonFailedDelete, Message: err.Error(), Since: metav1.NewTime(r.now())}
	if plan.Create > 0 {
		f.Reason = ReasonFailedCreate
	}
	return f
}

// report writes the whole status, if it has changed. Nobody else writes it, and
// one worker at a time does, so it replaces whatever is there.
func (r *reconciler) report(ctx context.Context, set Set, status Status) error {
	if equality.Semantic.DeepEqual(status, set.Status) {
		return nil
	}
	fields := map[string]any{
		"replicas":             status.Replicas,
		"fullyLabeledReplicas": status.FullyLabeledReplicas,
		"readyReplicas":        status.ReadyReplicas,
		"availableReplicas":    status.AvailableReplicas,
		"observedGeneration":   status.ObservedGeneration,
		"conditions":           r.kind.conditions(set.Object, status.Failure),
	}
	if status.TerminatingReplicas != nil {
		fields["terminatingReplicas"] = *status.TerminatingReplicas
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": set.Object.GetUID()}, "status": fields})
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	object := r.kind.object()
	object.SetNamespace(set.Object.GetNamespace())
	object.SetName(set.Object.GetName())
	err = r.client.Status().Patch(ctx, object, client.RawPatch(types.MergePatchType, patch))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // another set has the name now: its events wake us
	}
	if err != nil {
		return fmt.Errorf("update status of %s: %w", set.Object.GetName(), err)
	}
	return nil
}
