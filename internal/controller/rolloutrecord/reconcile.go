package rolloutrecord

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
)

// reconciler keeps the records of Deployments, or of StatefulSets.
type reconciler struct {
	kind   string        // of the targets
	client client.Client // reads from the cache
	pods   owned.Pods
	writer writer
	memory *memory
}

// Reconcile looks at a target, decides about its records, and writes them.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	for {
		facts, err := r.look(ctx, request.NamespacedName)
		if apierrors.IsNotFound(err) {
			r.memory.forget(request.NamespacedName)
			return ctrl.Result{}, nil
		}
		if err != nil {
			return ctrl.Result{}, err
		}
		plan := Decide(facts)
		r.memory.keep(request.NamespacedName, plan)
		made, err := r.carryOut(ctx, request.NamespacedName, plan)
		if err != nil {
			return ctrl.Result{}, err
		}
		if !made {
			return ctrl.Result{RequeueAfter: nextLook(plan, facts.Now)}, nil
		}
	}
}

// nextLook returns when to look again though nothing happens: when the plan says
// so, and after a write, to see whether there is anything left to do.
func nextLook(plan Plan, now time.Time) time.Duration {
	var after time.Duration
	if !plan.WakeAt.IsZero() {
		after = loop.Until(plan.WakeAt, now)
	}
	if len(plan.Statuses) > 0 && (after == 0 || after > beat) {
		after = beat
	}
	return after
}

// look reads all that a decision rests on, without copying what is in the cache.
// It returns a not-found error when there is no such target.
func (r *reconciler) look(ctx context.Context, key types.NamespacedName) (Facts, error) {
	f := Facts{Pods: map[types.UID][]Pod{}}
	read := r.readDeployment
	if r.kind == statefulSet {
		read = r.readStatefulSet
	}
	if err := read(ctx, key, &f); err != nil {
		return f, err
	}
	var err error
	if f.OnFailure, err = loop.FailurePolicy(ctx, r.client, key.Namespace); err != nil {
		return f, err
	}
	var services corev1.ServiceList
	if err := r.client.List(ctx, &services, client.InNamespace(key.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return f, fmt.Errorf("list services: %w", err)
	}
	for i := range services.Items {
		f.Services = append(f.Services, &services.Items[i])
	}
	var records v1alpha1.RolloutRecordList
	if err := r.list(ctx, &records, key.Namespace, targetIndex, f.Deployment.UID); err != nil {
		return f, fmt.Errorf("list records: %w", err)
	}
	for i := range records.Items {
		f.Records = append(f.Records, &records.Items[i])
	}
	r.memory.tell(key, &f)
	return f, nil
}

// readDeployment reads a Deployment, its sets and their pods.
func (r *reconciler) readDeployment(ctx context.Context, key types.NamespacedName, f *Facts) error {
	f.Deployment = &appsv1.Deployment{}
	if err := r.client.Get(ctx, key, f.Deployment, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	var sets appsv1.ReplicaSetList
	if err := r.list(ctx, &sets, key.Namespace, controllerIndex, f.Deployment.UID); err != nil {
		return fmt.Errorf("list replica sets: %w", err)
	}
	for i := range sets.Items {
		rs := &sets.Items[i]
		f.ReplicaSets = append(f.ReplicaSets, rs)
		pods, err := r.pods(ctx, key.Namespace, rs.UID)
		if err != nil {
			return err
		}
		f.Pods[rs.UID] = make([]Pod, len(pods))
		for i, pod := range pods {
			f.Pods[rs.UID][i].Pod = pod
		}
	}
	return nil
}

func (r *reconciler) list(ctx context.Context, into client.ObjectList, namespace, index string, uid types.UID) error {
	return r.client.List(ctx, into, client.InNamespace(namespace), client.MatchingFields{index: string(uid)}, client.UnsafeDisableDeepCopy)
}

// carryOut writes what was decided, and says whether it made a record, which has
// no status yet.
func (r *reconciler) carryOut(ctx context.Context, target types.NamespacedName, plan Plan) (made bool, err error) {
	var errs []error
	if plan.Create != nil {
		record, err := r.writer.create(ctx, plan.Create)
		if record != nil {
			r.memory.made(target, record)
		}
		made = record != nil
		errs = append(errs, err)
	}
	for _, change := range plan.Causes {
		errs = append(errs, r.writer.setCause(ctx, target.Namespace, change))
	}
	for _, change := range plan.Statuses {
		err := r.writer.setStatus(ctx, target.Namespace, change.Record, &change.Status)
		switch {
		case apierrors.IsNotFound(err):
			r.memory.unmade(target, change.Revision)
		case err != nil:
			errs = append(errs, err)
		default:
			r.memory.wrote(target, change.Revision, change.Status)
		}
	}
	return made, errors.Join(errs...)
}
