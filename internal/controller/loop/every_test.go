package loop_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"windlass.dev/windlass/internal/controller/loop"
)

// kept is a manager that keeps what it is to run.
type kept struct {
	ctrl.Manager
	runnable manager.Runnable
}

// Add implements manager.Manager.
func (k *kept) Add(r manager.Runnable) error {
	k.runnable = r
	return nil
}

// TestEvery: there is a look at once and one each period, whatever came of the one
// before, until the manager ends.
func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		var mgr kept
		if err := loop.Every(&mgr, time.Minute, "Look", func(context.Context, time.Time) error {
			looks++
			return errors.New("broken")
		}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute-time.Second)
		defer stop()
		if err := mgr.runnable.Start(ctx); err != nil || looks != 3 {
			t.Errorf("looked %d times in almost three minutes, %v", looks, err)
		}
	})
}
