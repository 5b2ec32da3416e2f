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
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// staleRetry is when to look again after a step found that its decision rested on
// something old, should the change itself wake nobody.
const staleRetry = 50 * time.Millisecond

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
	var taken []*appsv1.ReplicaSet
	for {
		snapshot, err := r.look(ctx, request.NamespacedName)
		if err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		snapshot.Taken = taken
		plan := rollout.Decide(snapshot)
		err = r.carryOut(ctx, snapshot, plan)

		var name *nameTaken
		switch {
		case errors.As(err, &name):
			taken = append(taken, name.by)
			continue
		case errors.Is(err, errStale):
			log.FromContext(ctx).V(1).Info("Decided on old facts, will look again", "reason", err.Error())
			return ctrl.Result{RequeueAfter: staleRetry}, nil
		case err != nil:
			return ctrl.Result{}, err
		case plan.WakeAt.IsZero():
			return ctrl.Result{}, nil
		}
		return ctrl.Result{RequeueAfter: max(plan.WakeAt.Sub(r.now()), time.Millisecond)}, nil
	}
}

// look reads all that a decision rests on. It returns a not-found error when
// there is no such Deployment.
func (r *reconciler) look(ctx context.Context, key types.NamespacedName) (rollout.Snapshot, error) {
	var deployment appsv1.Deployment
	if err := r.client.Get(ctx, key, &deployment); err != nil {
		return rollout.Snapshot{}, err
	}
	var namespace corev1.Namespace
	if err := r.client.Get(ctx, types.NamespacedName{Name: key.Namespace}, &namespace, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
		return rollout.Snapshot{}, fmt.Errorf("read namespace: %w", err)
	}
	s := rollout.Snapshot{
		Deployment: owned.Newest(r.written, &deployment),
		Pods:       map[types.UID][]*corev1.Pod{},
		OnFailure:  v1alpha1.FailurePolicy(namespace.Annotations[v1alpha1.AnnotationOnFailure]),
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
	w := newWork(r, s)
	for _, step := range plan.Steps {
		log.FromContext(ctx).V(1).Info("Step", "step", step.String())
		if err := w.do(ctx, step); err != nil {
			return err
		}
		if event, ok := step.Event(); ok {
			r.recorder.Event(s.Deployment, event.Type, event.Reason, event.Message)
		}
	}
	return nil
}

// reportCreateFailed says in events and status that the new set could not be
// made. It returns the error with which that failed.
func (w *work) reportCreateFailed(ctx context.Context, rs *appsv1.ReplicaSet, err error) error {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return fmt.Errorf("namespace %s is going: %w", rs.Namespace, errStale)
	}
	err = fmt.Errorf("create replica set %s: %w", rs.Name, err)
	message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, errors.Unwrap(err))
	w.recorder.Event(w.deployment, corev1.EventTypeWarning, rollout.ReasonReplicaSetCreateError, message)
	status := rollout.CreateFailed(w.deployment, message, w.now())
	return errors.Join(err, w.setStatus(ctx, status))
}
