package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubectl/pkg/polymorphichelpers"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rolloutview"
)

// exitInterrupted is the exit code of a command that the user has left.
const exitInterrupted = 130

type statusOptions struct {
	watch    bool
	revision int64
	timeout  time.Duration
}

func newRolloutStatus(cluster *cluster) *cobra.Command {
	var options statusOptions
	cmd := &cobra.Command{
		Use:   "status deployment/NAME",
		Short: "Wait for the end of a rollout and tell what happened",
		Long: `Wait for the end of a rollout and tell what happened: who began it and why,
how long it took, its traffic, and what took longest; if it failed, why and what
to do. The exit code is 0 when the rollout has succeeded, and 1 when it has not.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: cluster.onTarget(func(c *cobra.Command, conn *connection, target target) error {
			if options.revision < 0 {
				return fmt.Errorf("revision must be a positive integer: %d", options.revision)
			}
			return rolloutStatus(c.Context(), conn, target, options, c.OutOrStdout())
		}),
	}
	flags := cmd.Flags()
	flags.BoolVarP(&options.watch, "watch", "w", true, "wait until the rollout is done")
	flags.Int64Var(&options.revision, "revision", 0, "the revision that must be the current one; 0 is any")
	flags.DurationVar(&options.timeout, "timeout", 0, "how long to wait, such as 2m; 0 is for ever")
	return cmd
}

func rolloutStatus(ctx context.Context, conn *connection, target target, options statusOptions, out io.Writer) error {
	user := ctx
	if options.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, options.timeout)
		defer cancel()
	}
	feed, err := openFeed(ctx, conn, target)
	if err != nil {
		return err
	}
	defer feed.close()
	status := statusTeller{options: options, out: out}
	for changed := true; ; {
		facts, err := feed.facts(ctx)
		if err != nil {
			return err
		}
		done, again, err := status.look(facts, changed, time.Now())
		if done || err != nil {
			return err
		}
		changed = false
		select {
		case <-user.Done():
			return exitError{exitInterrupted}
		case <-ctx.Done():
			return errors.New("timed out waiting for the condition")
		case <-feed.changed:
			changed = true
		case <-time.After(again):
		}
	}
}

// statusTeller tells how a rollout goes in kubectl's words, and then what the
// record says.
type statusTeller struct {
	options  statusOptions
	out      io.Writer
	revision int64 // that the rollout began with
	said     string
	settling settling
}

// look takes in the facts and says whether that was all; if not, when to look
// again at the latest.
func (s *statusTeller) look(facts rolloutview.Facts, changed bool, now time.Time) (done bool, again time.Duration, err error) {
	current := rolloutview.Current(facts.Deployment)
	if s.revision == 0 {
		s.revision = current
	}
	message, complete, failure := kubectlStatus(facts, s.options.revision)
	if message != s.said {
		s.said = message
		fmt.Fprint(s.out, message)
	}
	r := rolloutview.Of(facts, current, now)
	if began := rolloutview.Of(facts, s.revision, now); s.revision > 0 && began.Phase == v1alpha1.RolloutRolledBack {
		r, failure = began, exitError{1}
	}
	if facts.StatefulSet != nil && r.Phase == v1alpha1.RolloutFailed {
		failure = exitError{1} // kubectl knows of no failure of a StatefulSet
	}
	another := failure != nil && s.options.revision > 0 && s.options.revision != current
	if s.options.watch && !another {
		settled, again := s.settling.done(&r, complete || failure != nil, changed, now)
		if !settled {
			return false, again, nil
		}
	}
	if r.Record != nil {
		printLines(s.out, rolloutview.Summary(r.Record, now))
	}
	return true, 0, failure
}

// kubectlStatus is what kubectl says of the rollout of a Deployment or StatefulSet.
func kubectlStatus(facts rolloutview.Facts, revision int64) (message string, complete bool, err error) {
	var object any = facts.Deployment
	var viewer polymorphichelpers.StatusViewer = &polymorphichelpers.DeploymentStatusViewer{}
	if facts.StatefulSet != nil {
		object, viewer = facts.StatefulSet, &polymorphichelpers.StatefulSetStatusViewer{}
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return "", false, err
	}
	return viewer.Status(&unstructured.Unstructured{Object: content}, revision)
}
