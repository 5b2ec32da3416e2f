package statefulset

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
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

// Reconcile looks at a StatefulSet, decides, and does what was decided.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if wait := r.pace.Wait(request.NamespacedName, r.now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	plan, err := loop.Attempt(func(taken []*appsv1.ControllerRevision) (rollout.Plan, error) {
		snapshot, plan, err := r.decide(ctx, request, taken)
		if err != nil {
			return rollout.Plan{}, client.IgnoreNotFound(err)
		}
		return plan, r.carryOut(ctx, snapshot, plan)
	})
	return loop.Next(ctx, err, plan.WakeAt, r.now())
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

// irrevocable says whether a plan makes or deletes a pod, makes claims of one, or ties
// a claim to what may go.
func irrevocable(plan rollout.Plan) bool {
	for _, step := range plan.Steps {
		switch step.(type) {
		case rollout.CreatePod, rollout.CreateClaims, rollout.DeletePod, rollout.OwnClaim, rollout.DeleteRevision:
			return true
		}
	}
	return false
}

// carryOut does the steps of a plan until one fails.
func (r *reconciler) carryOut(ctx context.Context, s rollout.StatefulSnapshot, plan rollout.Plan) error {
	return loop.CarryOut(ctx, plan, newWork(r, s).do, func(e rollout.Event) { r.recorder.Event(s.Set, e.Type, e.Reason, e.Message) })
}
