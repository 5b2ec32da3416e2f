package cli

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rolloutview"
)

type watchOptions struct{ plain, follow bool }

func newRolloutWatch(cluster *cluster) *cobra.Command {
	var options watchOptions
	cmd := &cobra.Command{
		Use:   "watch deployment/NAME",
		Short: "Watch a rollout as it happens",
		Long: `Watch a rollout as it happens: each pod as it changes from old to new, how far
it is, how long it will take, and the connections that were lost. It ends with
the rollout; the exit code is 0 when that is complete and 1 when it is not.

Where output is no terminal, or with --plain, there is a line for each event.
NO_COLOR switches colours off.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: cluster.onTarget(func(c *cobra.Command, conn *connection, target target) error {
			return watchRollout(c.Context(), conn, target, options, os.Stdout)
		}),
	}
	cmd.Flags().BoolVar(&options.plain, "plain", false, "print a line for each event, in a terminal too")
	cmd.Flags().BoolVar(&options.follow, "follow", false, "go on with the next rollout when one has ended")
	return cmd
}

// display shows a rollout while it goes on.
type display interface {
	// show takes a look that is newer than those before.
	show(r *rolloutview.Rollout, now time.Time)

	// resized delivers when the look has to be taken anew because the terminal's
	// size has changed.
	resized() <-chan os.Signal

	// close leaves the screen as it was.
	close()
}

func watchRollout(ctx context.Context, conn *connection, target target, options watchOptions, out *os.File) error {
	feed, err := openFeed(ctx, conn, target)
	if err != nil {
		return err
	}
	defer feed.close()
	for {
		r, err := watchOne(ctx, feed, newDisplay(out, options.plain))
		if err != nil {
			return err
		}
		tellEnd(out, r)
		if !options.follow {
			if r.Phase != v1alpha1.RolloutCompleted {
				return exitError{1}
			}
			return nil
		}
		if err := nextRollout(ctx, feed, r.Revision); err != nil {
			return err
		}
	}
}

// tellEnd says how a rollout has ended.
func tellEnd(out io.Writer, r *rolloutview.Rollout) {
	if r.Record != nil {
		printLines(out, rolloutview.Summary(r.Record, time.Now()))
	}
}

// frame is the least time between two looks; with thousands of pods it is four
// times what a look takes.
const frame = 50 * time.Millisecond

// watchOne shows the current rollout until it has ended.
func watchOne(ctx context.Context, feed *feed, display display) (*rolloutview.Rollout, error) {
	defer display.close()
	var settling settling
	revision := int64(0)
	begun := time.Now()
	for changed := true; ; {
		facts, err := feed.facts(ctx)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		if revision == 0 {
			revision = rolloutview.Current(facts.Deployment)
		}
		r := rolloutview.Of(facts, revision, now)
		if feed.records && r.Record == nil && now.Sub(begun) < recordPatience {
			r.Phase = v1alpha1.RolloutProgressing // its record is about to come
		}
		display.show(&r, now)
		settled, again := settling.done(&r, r.Phase.Over(), changed, now)
		if settled {
			return &r, nil
		}
		changed, err = nextLook(ctx, feed, display, max(frame, 4*time.Since(now)), again)
		if err != nil {
			return nil, err
		}
	}
}

// nextLook waits until something has changed, at least rest and at most again
// and rest, and says whether it was a fact.
func nextLook(ctx context.Context, feed *feed, display display, rest, again time.Duration) (changed bool, err error) {
	select {
	case <-ctx.Done():
		return false, exitError{exitInterrupted}
	case <-feed.changed:
		changed = true
	case <-display.resized():
	case <-time.After(again):
	}
	select {
	case <-ctx.Done():
		return false, exitError{exitInterrupted}
	case <-time.After(rest):
	}
	return changed, nil
}

// nextRollout waits for a revision after the one that has been.
func nextRollout(ctx context.Context, feed *feed, revision int64) error {
	for {
		facts, err := feed.facts(ctx)
		if err != nil {
			return err
		}
		if rolloutview.Current(facts.Deployment) > revision {
			return nil
		}
		select {
		case <-ctx.Done():
			return exitError{exitInterrupted}
		case <-feed.changed:
		}
	}
}
