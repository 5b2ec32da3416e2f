package proxy

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// answerWithin is how long an endpoint that left has to answer connections that
// were sent to it until then: one that lives answers within milliseconds.
const answerWithin = 300 * time.Millisecond

// sweeper forgets flows one Sweep after the other, beside the loop: a busy
// machine has many, and no change of rules waits for that.
type sweeper struct {
	flows Flows
	log   *slog.Logger
	wake  chan struct{}

	mu        sync.Mutex
	pending   []Sweep
	forgotten int
}

func newSweeper(flows Flows, log *slog.Logger) *sweeper {
	return &sweeper{flows: flows, log: log, wake: make(chan struct{}, 1)}
}

// add has a sweep done soon, and after a while what it leaves to a later one.
func (s *sweeper) add(sweep Sweep) {
	if len(sweep.left) > 0 {
		time.AfterFunc(answerWithin, func() { s.add(Sweep{Unanswered: sweep.left}) })
	}
	if sweep.Empty() {
		return
	}
	s.mu.Lock()
	s.pending = append(s.pending, sweep)
	s.mu.Unlock()
	notify(s.wake)
}

func (s *sweeper) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forgotten
}

func (s *sweeper) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		pending := s.pending
		s.pending = nil
		s.mu.Unlock()
		for _, sweep := range pending {
			n, err := sweep.Apply(s.flows)
			if err != nil {
				s.log.Error("old connections not forgotten", "error", err)
			}
			s.mu.Lock()
			s.forgotten += n
			s.mu.Unlock()
		}
	}
}
