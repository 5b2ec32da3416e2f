package loop_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"windlass.dev/windlass/internal/controller/loop"
)

// TestVigil: a process that keeps a vigil has looked on since it began; one that was
// stopped, or whose clock was set either way, since then.
func TestVigil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mgr kept
		v, err := loop.KeepVigil(&mgr)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
		defer stop()
		if err := mgr.runnable.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if since := v.Since(time.Now()); !since.Equal(began) {
			t.Errorf("a vigil that was kept is said to have begun %v late", since.Sub(began))
		}
		time.Sleep(10 * time.Minute) // nobody keeps it
		awake := time.Now()
		for range 3 {
			if since := v.Since(time.Now()); !since.Equal(awake) {
				t.Errorf("a vigil that was broken is said to have begun %v before", awake.Sub(since))
			}
			time.Sleep(time.Second)
		}
	})
	wall := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) // times that show the wall's clock alone
	v := loop.NewVigil(wall)
	for _, set := range []time.Duration{time.Hour, -time.Hour, -10 * time.Minute} {
		wall = wall.Add(set)
		if since := v.Since(wall); !since.Equal(wall) {
			t.Errorf("the clock was set by %v, and the vigil is said to have begun %v before", set, wall.Sub(since))
		}
	}
}
