package replicaset

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
)

const (
	// parallel is how many pods of a set are made or deleted at the same time.
	parallel = 32

	// nameTries is how many names a new pod may find taken.
	nameTries = 5
)

// carryOut does what a plan says. It returns the first error, after which no more
// pods are made or deleted than had begun.
func (r *reconciler) carryOut(ctx context.Context, set Set, plan Plan) error {
	if err := r.claim(ctx, set, plan); err != nil {
		return err
	}
	// One at first, then twice as many each time: what fails for all fails a few times.
	err := slowStart(plan.Create, func(int) error { return r.create(ctx, set) })
	if err != nil {
		return err
	}
	return slowStart(len(plan.Delete), func(i int) error { return r.delete(ctx, set, plan.Delete[i]) })
}

// slowStart calls do with 0 to n-1: once, and while that succeeds twice, four
// times and so on at the same time. It returns the first error.
func slowStart(n int, do func(int) error) error {
	for begin, batch := 0, 1; begin < n; begin, batch = begin+batch, min(2*batch, parallel) {
		end := min(begin+batch, n)
		errs := make([]error, end-begin)
		var wait sync.WaitGroup
		for i := begin; i < end; i++ {
			wait.Go(func() { errs[i-begin] = do(i) })
		}
		wait.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// claim adopts and releases pods. Before it adopts any, a live read must show
// that the set still exists and is to stay.
func (r *reconciler) claim(ctx context.Context, set Set, plan Plan) error {
	if len(plan.Adopt) > 0 {
		if err := loop.MayAdopt(ctx, r.live, set.Object, r.kind.object()); err != nil {
			return err
		}
	}
	for _, pod := range plan.Adopt {
		if err := r.setOwners(ctx, pod, owned.Adopted(pod, set.Object, r.kind.GroupVersionKind)); err != nil {
			return fmt.Errorf("adopt pod %s: %w", pod.Name, err)
		}
	}
	for _, pod := range plan.Release {
		if err := r.setOwners(ctx, pod, owned.Released(pod, set.Object.GetUID())); err != nil {
			return fmt.Errorf("release pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

func (r *reconciler) setOwners(ctx context.Context, pod *corev1.Pod, refs []metav1.OwnerReference) error {
	changed := pod.DeepCopy()
	changed.OwnerReferences = refs
	return loop.Stale(r.client.Patch(ctx, changed, loop.IfUnchanged(pod)))
}

// create makes one pod.
func (r *reconciler) create(ctx context.Context, set Set) error {
	var err error
	for range nameTries {
		pod := newPod(&set, r.kind.GroupVersionKind, podName(set.Object.GetName(), r.random))
		if err = r.createNamed(ctx, set, pod); !apierrors.IsAlreadyExists(err) {
			break
		}
	}
	return err
}

func (r *reconciler) createNamed(ctx context.Context, set Set, pod *corev1.Pod) error {
	uid := set.Object.GetUID()
	r.written.making(uid, pod, r.now())
	created := pod.DeepCopy()
	err := r.client.Create(ctx, created)
	switch {
	case err == nil:
		r.written.made(uid, created)
		r.recorder.Eventf(set.Object, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", pod.Name)
		return nil
	case refused(err):
		r.written.notMade(uid, pod.Name)
	}
	if apierrors.IsAlreadyExists(err) {
		return err
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // the set goes with its namespace
	}
	r.recorder.Eventf(set.Object, corev1.EventTypeWarning, ReasonFailedCreate, "Error creating: %v", err)
	return fmt.Errorf("create pod: %w", err)
}

// refused says whether an error means that the API has not made the object: the
// outcome is unknown when it did not answer, or answered that it ran out of time.
func refused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err) &&
		!apierrors.IsInternalError(err) && !apierrors.IsUnexpectedServerError(err)
}

// delete deletes one pod, with its own grace period. One of which it is not known
// whether it was made is left until that is known.
func (r *reconciler) delete(ctx context.Context, set Set, pod *corev1.Pod) error {
	if pod.UID == "" {
		return nil
	}
	uid := set.Object.GetUID()
	r.written.deleting(uid, pod.UID)
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err := r.client.Delete(ctx, target, client.Preconditions{UID: ptr.To(pod.UID)})
	switch {
	case err == nil:
		r.recorder.Eventf(set.Object, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // it, or the one of that UID, is gone
	default:
		r.written.notDeleted(uid, pod.UID)
		r.recorder.Eventf(set.Object, corev1.EventTypeWarning, ReasonFailedDelete, "Error deleting: %v", err)
		return fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	return nil
}
