package loop

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// Taken is the error of a step that would create an object under the name of
// another.
type Taken[T client.Object] struct{ By T }

func (e *Taken[T]) Error() string { return fmt.Sprintf("there is a %T %s", e.By, e.By.GetName()) }

// WhoHas returns Taken with the object that has a name, as a live read into empty
// shows it.
func WhoHas[T client.Object](ctx context.Context, live client.Reader, name client.ObjectKey, empty T) error {
	if err := live.Get(ctx, name, empty); err != nil {
		return fmt.Errorf("read the %T that has the name %s: %w", empty, name.Name, err)
	}
	return &Taken[T]{By: empty}
}

// Going returns ErrStale for an error that says that the namespace of what was to
// be created is going, and nil for any other.
func Going(err error) error {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return fmt.Errorf("the namespace is going: %w", ErrStale)
	}
	return nil
}

// Attempt attempts to decide and act, again each time that a name turns out to be
// taken, with all objects that have such names. It returns the last plan, and the
// error that ended it.
func Attempt[T client.Object](attempt func(taken []T) (rollout.Plan, error)) (rollout.Plan, error) {
	var taken []T
	for {
		plan, err := attempt(taken)
		var name *Taken[T]
		if !errors.As(err, &name) {
			return plan, err
		}
		taken = append(taken, name.By)
	}
}

// CarryOut does the steps of a plan until one fails, and tells the event of each
// that was done.
func CarryOut(ctx context.Context, plan rollout.Plan, do func(context.Context, rollout.Step) error, tell func(rollout.Event)) error {
	for _, step := range plan.Steps {
		log.FromContext(ctx).V(1).Info("Step", "step", step.String())
		if err := do(ctx, step); err != nil {
			return err
		}
		if event, ok := step.Event(); ok {
			tell(event)
		}
	}
	return nil
}

// MayAdopt returns an error unless a live read, into empty, shows that an owner
// still exists and is to stay: ErrStale when it does not.
func MayAdopt(ctx context.Context, live client.Reader, owner, empty client.Object) error {
	if err := live.Get(ctx, client.ObjectKeyFromObject(owner), empty); err != nil {
		return fmt.Errorf("read %s before it adopts: %w", owner.GetName(), err)
	}
	if empty.GetUID() != owner.GetUID() || empty.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s, which is to adopt: %w", owner.GetName(), ErrStale)
	}
	return nil
}

// FailurePolicy reads what a namespace says of rollouts that fail; nothing when
// there is no such namespace.
func FailurePolicy(ctx context.Context, cache client.Reader, namespace string) (v1alpha1.FailurePolicy, error) {
	var n corev1.Namespace
	if err := cache.Get(ctx, types.NamespacedName{Name: namespace}, &n, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("read namespace: %w", err)
	}
	return v1alpha1.FailurePolicy(n.Annotations[v1alpha1.AnnotationOnFailure]), nil
}

// OnFailurePolicy calls wakeAll with each namespace that comes to say something
// else of rollouts that fail.
func OnFailurePolicy(wakeAll func(ctx context.Context, namespace string, q Queue)) handler.EventHandler {
	return Events[*corev1.Namespace]{
		Updated: func(ctx context.Context, before, after *corev1.Namespace, q Queue) {
			if before.Annotations[v1alpha1.AnnotationOnFailure] != after.Annotations[v1alpha1.AnnotationOnFailure] {
				wakeAll(ctx, after.Name, q)
			}
		},
	}.Handler()
}
