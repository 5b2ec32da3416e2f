package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// part is one piece of the server: run works until its context ends.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// failedPatience is how long the parts have to stop once one has failed: what it
// has left undone may hold the others up for ever.
const failedPatience = 15 * time.Second

// runParts starts the parts in their order, waits until ctx ends or a part
// does, and stops them in reverse: each has ended before the one that it
// stands on is told to.
func runParts(ctx context.Context, log *slog.Logger, parts []part) error {
	type running struct {
		part
		stop context.CancelFunc
		done chan struct{}
		err  error
	}
	var started []*running
	ended := make(chan *running, len(parts))
	for _, p := range parts {
		// A part's life is not cut short by ctx: the order of stopping is ours.
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{part: p, stop: stop, done: make(chan struct{})}
		go func() {
			r.err = r.run(own)
			close(r.done)
			ended <- r
		}()
		started = append(started, r)
	}

	var cause error
	var late <-chan time.Time
	select {
	case <-ctx.Done():
	case first := <-ended:
		if first.err == nil {
			first.err = errors.New("ended without a reason")
		}
		cause = fmt.Errorf("%s: %w", first.name, first.err)
		late = time.After(failedPatience)
	}
	for i := len(started) - 1; i >= 0; i-- {
		r := started[i]
		r.stop()
		select {
		case <-r.done:
		case <-late:
			log.Error("Ending although a part does not stop", "part", r.name)
			return cause
		}
		log.Debug("stopped", "part", r.name)
		if r.err != nil && !errors.Is(r.err, context.Canceled) && cause == nil {
			cause = fmt.Errorf("stop %s: %w", r.name, r.err)
		}
	}
	return cause
}
