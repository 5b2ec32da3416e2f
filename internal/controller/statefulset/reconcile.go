package statefulset

import (
	"context"
	"errors"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

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

// Reconcile looks at a StatefulSet, decides, and does what was decided.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if wait := r.pace.Wait(request.NamespacedName, r.now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	var taken []*appsv1.ControllerRevision
	for {
		snapshot, plan, err := r.decide(ctx, request, taken)
		if err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
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

// decide makes a plan from the cache and, if that does something that cannot be
// taken back, another one from the API. It returns a not-found error when there
// is no such set.
func (r *reconciler) decide(ctx context.Context, request ctrl.Request, taken []*appsv1.ControllerRevision) (rollout.StatefulSnapshot, rollout.Plan, error) {
	snapshot, err := r.look(ctx, request.NamespacedName)
	if err != nil {
		return snapshot, rollout.Plan{}, err
	}
	snapshot.Taken = taken
	plan := rollout.DecideStateful(snapshot)
	if !irrevocable(plan) {
		return snapshot, plan, nil
	}
	if snapshot, err = r.lookLive(ctx, request.NamespacedName); err != nil {
		return snapshot, rollout.Plan{}, err
	}
	snapshot.Taken = taken
	return snapshot, rollout.DecideStateful(snapshot), nil
}

// irrevocable says whether a plan makes or deletes a pod, or ties a claim to what
// may go.
func irrevocable(plan rollout.Plan) bool {
	for _, step := range plan.Steps {
		switch step.(type) {
		case rollout.CreatePod, rollout.DeletePod, rollout.OwnClaim, rollout.DeleteRevision:
			return true
		}
	}
	return false
}

// carryOut does the steps of a plan until one fails.
func (r *reconciler) carryOut(ctx context.Context, s rollout.StatefulSnapshot, plan rollout.Plan) error {
	w := newWork(r, s)
	for _, step := range plan.Steps {
		log.FromContext(ctx).V(1).Info("Step", "step", step.String())
		if err := w.do(ctx, step); err != nil {
			return err
		}
		if event, ok := step.Event(); ok {
			r.recorder.Event(s.Set, event.Type, event.Reason, event.Message)
		}
	}
	return nil
}
