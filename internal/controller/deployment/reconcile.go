package deployment

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

type reconciler struct {
	client   client.Client // reads from the cache
	pods     owned.Pods
	live     client.Reader // reads from the API
	recorder record.EventRecorder
	now      func() time.Time
	written  *owned.Written
	pace     owned.Pace
}

// Reconcile looks at a Deployment, decides, and does what was decided.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if wait := r.pace.Wait(request.NamespacedName, r.now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	plan, err := loop.Attempt(func(taken []*appsv1.ReplicaSet) (rollout.Plan, error) {
		snapshot, err := r.look(ctx, request.NamespacedName)
		if err != nil {
			return rollout.Plan{}, client.IgnoreNotFound(err)
		}
		snapshot.Taken = taken
		plan := rollout.Decide(snapshot)
		return plan, r.carryOut(ctx, snapshot, plan)
	})
	return loop.Next(ctx, err, plan.WakeAt, r.now())
}

// look reads all that a decision rests on. It returns a not-found error when
// there is no such Deployment.
func (r *reconciler) look(ctx context.Context, key types.NamespacedName) (rollout.Snapshot, error) {
	var deployment appsv1.Deployment
	if err := r.client.Get(ctx, key, &deployment); err != nil {
		return rollout.Snapshot{}, err
	}
	onFailure, err := loop.FailurePolicy(ctx, r.client, key.Namespace)
	if err != nil {
		return rollout.Snapshot{}, err
	}
	s := rollout.Snapshot{
		Deployment: owned.Newest(r.written, &deployment),
		Pods:       map[types.UID][]*corev1.Pod{},
		OnFailure:  onFailure,
		Now:        r.now(),
	}
	for _, owner := range []types.UID{deployment.UID, owned.Nobody} {
		var sets appsv1.ReplicaSetList
		if err := r.list(ctx, &sets, key.Namespace, owner); err != nil {
			return s, fmt.Errorf("list replica sets: %w", err)
		}
		for i := range sets.Items {
			s.ReplicaSets = append(s.ReplicaSets, owned.Newest(r.written, &sets.Items[i]))
		}
	}
	if err := r.addUnlisted(ctx, &s); err != nil {
		return s, err
	}
	count := 0
	for _, rs := range s.ReplicaSets {
		pods, err := r.pods(ctx, key.Namespace, rs.UID)
		if err != nil {
			return s, err
		}
		s.Pods[rs.UID] = pods
		count += len(pods)
	}
	r.pace.Looked(key, count, s.Now)
	return s, nil
}

// addUnlisted adds the sets that this process has made and the cache does not
// show yet: left out, their pods would be asked for a second time.
func (r *reconciler) addUnlisted(ctx context.Context, s *rollout.Snapshot) error {
	for _, made := range unlisted(r.written, s.Deployment.UID, s.ReplicaSets) {
		var rs appsv1.ReplicaSet
		err := r.live.Get(ctx, client.ObjectKeyFromObject(made), &rs)
		switch {
		case apierrors.IsNotFound(err) || err == nil && rs.UID != made.UID:
			r.written.Forget(made)
		case err != nil:
			return fmt.Errorf("read replica set %s: %w", made.Name, err)
		default:
			s.ReplicaSets = append(s.ReplicaSets, &rs)
		}
	}
	return nil
}

// list reads sets of a controller from the cache, without copying what they hold:
// they must not be changed.
func (r *reconciler) list(ctx context.Context, into client.ObjectList, namespace string, controller types.UID) error {
	return r.client.List(ctx, into, client.InNamespace(namespace), client.MatchingFields{controllerIndex: string(controller)}, client.UnsafeDisableDeepCopy)
}

// carryOut does the steps of a plan until one fails.
func (r *reconciler) carryOut(ctx context.Context, s rollout.Snapshot, plan rollout.Plan) error {
	return loop.CarryOut(ctx, plan, newWork(r, s).do, func(e rollout.Event) { r.recorder.Event(s.Deployment, e.Type, e.Reason, e.Message) })
}

// reportCreateFailed says in events and status that the new set could not be
// made. It returns the error with which that failed.
func (w *work) reportCreateFailed(ctx context.Context, rs *appsv1.ReplicaSet, err error) error {
	if going := loop.Going(err); going != nil {
		return going
	}
	err = fmt.Errorf("create replica set %s: %w", rs.Name, err)
	message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, errors.Unwrap(err))
	w.recorder.Event(w.deployment, corev1.EventTypeWarning, rollout.ReasonReplicaSetCreateError, message)
	status := rollout.CreateFailed(w.deployment, message, w.now())
	return errors.Join(err, w.setStatus(ctx, status))
}
