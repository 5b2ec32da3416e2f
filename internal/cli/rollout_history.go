package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/polymorphichelpers"

	"windlass.dev/windlass/internal/rolloutview"
)

func newRolloutHistory(cluster *cluster) *cobra.Command {
	var revision int64
	cmd := &cobra.Command{
		Use:   "history deployment/NAME",
		Short: "List the rollouts of a Deployment or StatefulSet, or tell everything of one",
		Args:  cobra.RangeArgs(1, 2),
		RunE: cluster.onTarget(func(c *cobra.Command, conn *connection, target target) error {
			return rolloutHistory(c.Context(), conn, target, revision, c.OutOrStdout())
		}),
	}
	cmd.Flags().Int64Var(&revision, "revision", 0, "the one to tell everything of: its record and its pod template")
	return cmd
}

func rolloutHistory(ctx context.Context, conn *connection, target target, revision int64, out io.Writer) error {
	feed, err := openFeed(ctx, conn, target)
	if err != nil {
		return err
	}
	defer feed.close()
	facts, err := feed.facts(ctx)
	if err != nil {
		return err
	}
	if revision == 0 {
		printLines(out, rolloutview.History(facts, time.Now()))
		return nil
	}
	record := rolloutview.Record(facts, revision)
	if record != nil {
		printLines(out, rolloutview.Describe(record, time.Now()))
	}
	clients, err := kubernetes.NewForConfig(conn.config)
	if err != nil {
		return err
	}
	viewer, err := polymorphichelpers.HistoryViewerFor(target.groupKind(), clients)
	if err != nil {
		return err
	}
	template, err := viewer.ViewHistory(conn.namespace, target.name, revision)
	switch {
	case err == nil:
		fmt.Fprint(out, template)
	case record != nil: // an undo has given its template a newer revision
		fmt.Fprintln(out, "the template has a newer revision by now")
	default:
		return fmt.Errorf("%s has no revision %d; see: windlass rollout history %s", target, revision, target)
	}
	return nil
}
