// Package loop is the frame that the controllers share: how many objects of a
// kind are worked on at once and how what failed is tried again, whose look an
// event asks for, and what follows from how a look has ended. Controllers that
// carry out plans of package rollout also do their steps by it.
package loop

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// A look that failed is tried again after firstRetry, then after twice as long
	// each time, up to lastRetry.
	firstRetry, lastRetry = 5 * time.Millisecond, 30 * time.Second

	// StaleRetry is when to look again after a step found that its decision rested
	// on something old, should the change itself wake nobody.
	StaleRetry = 50 * time.Millisecond
)

// Options are those of a controller that works on as many objects at once, and
// tries what failed again soon.
func Options(workers int) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: workers,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
	}
}

// ErrStale means that a step rested on something that has changed since it was
// read.
var ErrStale = errors.New("changed since it was read")

// Stale returns ErrStale for an error that says that an object has changed or is
// gone, and any other error as it is.
func Stale(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return ErrStale
	}
	return err
}

// Next says what follows from a look: none before the next event, one at wakeAt if
// that is set, one soon after ErrStale, and after any other error one by the
// controller's pace of retries.
func Next(ctx context.Context, err error, wakeAt, now time.Time) (ctrl.Result, error) {
	if errors.Is(err, ErrStale) {
		log.FromContext(ctx).V(1).Info("Decided on old facts, will look again", "reason", err.Error())
		return ctrl.Result{RequeueAfter: StaleRetry}, nil
	}
	if err != nil || wakeAt.IsZero() {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: Until(wakeAt, now)}, nil
}

// Until returns the time from now to a moment, of which a queue takes none that is
// not positive.
func Until(moment, now time.Time) time.Duration { return max(moment.Sub(now), time.Millisecond) }

// IfUnchanged is the patch that makes an object what it is now, if it is in the
// API still as it was before.
func IfUnchanged(before client.Object) client.Patch {
	return client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
}
