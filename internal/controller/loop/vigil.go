package loop

import (
	"context"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"
)

const (
	// beatEvery is how often a process that keeps a vigil notes that it is awake.
	beatEvery = 500 * time.Millisecond

	// longestBlink is how long a process may not have noted that it is awake, or how
	// far its clock may have moved by itself, without its vigil being broken.
	longestBlink = 2 * time.Second
)

// Vigil tells since when a process has looked on without a break. What a process
// did not see while it was stopped, or asleep with its machine, it must not hold
// against others; nor can it tell how long something took over which its clock was
// set. It is safe for concurrent use.
type Vigil struct {
	mu          sync.Mutex
	since, last time.Time
}

// NewVigil returns a vigil that begins now.
func NewVigil(now time.Time) *Vigil { return &Vigil{since: now, last: now} }

// KeepVigil returns a vigil that begins now, and that a manager keeps while it runs.
// The only error is that of adding to the manager.
func KeepVigil(mgr manager.Manager) (*Vigil, error) {
	v := NewVigil(time.Now())
	return v, mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		ticker := time.NewTicker(beatEvery)
		defer ticker.Stop()
		for {
			v.Since(time.Now())
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	}))
}

// Since notes that the process is awake now, and returns since when it has been
// without a break.
func (v *Vigil) Since(now time.Time) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	passed := now.Sub(v.last)                  // by the clock that nobody sets, which may stand still while the machine sleeps
	shown := now.Round(0).Sub(v.last.Round(0)) // by the clock on the wall
	if passed.Abs() > longestBlink || (shown-passed).Abs() > longestBlink {
		v.since = now
	}
	v.last = now
	return v.since
}
