package image

import (
	"context"
	"sync"

	"windlass.dev/windlass/internal/agent"
)

// flights lets callers who want the same thing at the same time share one call.
// Its zero value is ready.
type flights struct {
	mu      sync.Mutex
	current map[string]*flight
	all     sync.WaitGroup
}

// flight is one call under way. waiters, begun, at and listeners are guarded by
// the lock of flights; image and err are set before done is closed.
type flight struct {
	done      chan struct{}
	cancel    context.CancelFunc
	waiters   int
	begun     bool // at says how far it is
	at        agent.PullProgress
	listeners []func(agent.PullProgress)
	image     *agent.Image
	err       error
}

// do calls fetch, or joins the call for the same key that is under way. Its
// context ends when the last caller's has. progress, unless it is nil, is told
// what fetch tells, until the call ends.
func (f *flights) do(ctx context.Context, key string, progress func(agent.PullProgress), fetch func(ctx context.Context, tell func(agent.PullProgress)) (*agent.Image, error)) (*agent.Image, error) {
	f.mu.Lock()
	joined := f.current[key]
	if joined == nil {
		joined = f.begin(ctx, key, fetch)
	}
	joined.waiters++
	if progress != nil {
		joined.listeners = append(joined.listeners, progress)
		if joined.begun {
			progress(joined.at)
		}
	}
	f.mu.Unlock()
	select {
	case <-joined.done:
		return joined.image, joined.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if joined.waiters--; joined.waiters == 0 {
		joined.cancel()
		if f.current[key] == joined {
			delete(f.current, key) // whoever comes now starts anew
		}
	}
	return nil, context.Cause(ctx)
}

// begin starts a call. f.mu is held.
func (f *flights) begin(ctx context.Context, key string, fetch func(ctx context.Context, tell func(agent.PullProgress)) (*agent.Image, error)) *flight {
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	begun := &flight{done: make(chan struct{}), cancel: cancel}
	if f.current == nil {
		f.current = map[string]*flight{}
	}
	f.current[key] = begun
	f.all.Go(func() {
		begun.image, begun.err = fetch(shared, func(at agent.PullProgress) { f.tell(begun, at) })
		f.mu.Lock()
		if f.current[key] == begun {
			delete(f.current, key)
		}
		f.mu.Unlock()
		cancel()
		close(begun.done)
	})
	return begun
}

func (f *flights) tell(call *flight, at agent.PullProgress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	call.begun, call.at = true, at
	for _, listener := range call.listeners {
		listener(at)
	}
}

// stop ends all calls and waits for them.
func (f *flights) stop() {
	f.mu.Lock()
	for _, call := range f.current {
		call.cancel()
	}
	f.mu.Unlock()
	f.all.Wait()
}
