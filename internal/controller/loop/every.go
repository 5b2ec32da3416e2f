package loop

import (
	"context"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Every has a manager call look when it starts and then each period, for what no
// event tells of. An error is logged as that of what; the next look comes all the
// same.
func Every(mgr ctrl.Manager, period time.Duration, what string, look func(ctx context.Context, now time.Time) error) error {
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			if err := look(ctx, time.Now()); err != nil && ctx.Err() == nil {
				log.FromContext(ctx).Error(err, what)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	}))
}
