package image

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"

	"windlass.dev/windlass/internal/agent"
)

// Pull fetches the image of a name from its registry. At most one pull of a name
// runs at a time; others wait for it and share its result, and it is given up
// when all of them have. The error has the registry's reason.
func (s *Store) Pull(ctx context.Context, ref string) (*agent.Image, error) {
	want, err := parseReference(ref)
	if err != nil {
		return nil, err
	}
	if want.named == nil {
		return nil, fmt.Errorf("image %s is an ID: only a name can be pulled", ref)
	}
	return s.pulls.do(ctx, want.named.String(), func(ctx context.Context) (*agent.Image, error) {
		return s.pull(ctx, want.named)
	})
}

// pull fetches an image.
func (s *Store) pull(ctx context.Context, named reference.Named) (*agent.Image, error) {
	begin := time.Now()
	if err := checkSpace(s.dataDir, reserve); err != nil {
		return nil, fmt.Errorf("pull %s: %w", named, err)
	}
	from, err := docker.NewReference(named)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", named, err)
	}
	to, err := istorage.Transport.NewStoreReference(s.storage, named, "")
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", named, err)
	}
	system := *s.system
	if insecure(reference.Domain(named), s.insecure) {
		system.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	s.writing.RLock()
	err = s.copy(ctx, from, to, &system)
	s.writing.RUnlock()
	if err != nil {
		s.sweep()
		return nil, fmt.Errorf("pull %s: %w", named, err)
	}
	s.log.Info("Pulled image", "image", named.String(), "took", time.Since(begin))
	return s.Find(ctx, named.String())
}

// flights lets callers who want the same thing at the same time share one call.
// Its zero value is ready.
type flights struct {
	mu      sync.Mutex
	current map[string]*flight
	all     sync.WaitGroup
}

// flight is one call under way. waiters is guarded by the lock of flights; image
// and err are set before done is closed.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	image   *agent.Image
	err     error
}

// do calls fetch, or joins the call for the same key that is under way. Its
// context ends when the last caller's has.
func (f *flights) do(ctx context.Context, key string, fetch func(context.Context) (*agent.Image, error)) (*agent.Image, error) {
	f.mu.Lock()
	joined := f.current[key]
	if joined == nil {
		shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
		joined = &flight{done: make(chan struct{}), cancel: cancel}
		if f.current == nil {
			f.current = map[string]*flight{}
		}
		f.current[key] = joined
		f.all.Go(func() {
			joined.image, joined.err = fetch(shared)
			f.mu.Lock()
			if f.current[key] == joined {
				delete(f.current, key)
			}
			f.mu.Unlock()
			cancel()
			close(joined.done)
		})
	}
	joined.waiters++
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

// stop ends all calls and waits for them.
func (f *flights) stop() {
	f.mu.Lock()
	for _, call := range f.current {
		call.cancel()
	}
	f.mu.Unlock()
	f.all.Wait()
}
