package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/polymorphichelpers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rolloutview"
)

const (
	// fieldManager is who has changed a field, for the API.
	fieldManager = "windlass-rollout"

	// recordPatience is how long a command waits for the record of what it has
	// begun, or of what has ended.
	recordPatience = 3 * time.Second
)

func newRollout() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Watch, explain and steer the rollouts of Deployments",
		Long: `Watch, explain and steer the rollouts of Deployments.

The cluster is found as kubectl finds it: KUBECONFIG, --kubeconfig, --context.
A Deployment is named deployment/NAME, deploy/NAME or NAME.`,
	}
	cluster := clusterFlags(cmd)
	cmd.AddCommand(
		newRolloutWatch(cluster), newRolloutStatus(cluster), newRolloutHistory(cluster), newRolloutUndo(cluster),
		newRolloutAct(cluster, "pause", "paused", "Stop a rollout where it is", pause),
		newRolloutAct(cluster, "resume", "resumed", "Let a paused rollout go on", resume),
		newRolloutAct(cluster, "restart", "restarted", "Replace all pods by new ones of the same template", restart),
	)
	return cmd
}

// rolloutTarget reads what a user calls a Deployment: deployment/NAME, or
// deployment NAME, or NAME.
func rolloutTarget(args []string) (string, error) {
	text := strings.Join(args, "/")
	kind, name, ok := strings.Cut(text, "/")
	if !ok {
		kind, name = "deployment", text
	}
	switch strings.ToLower(kind) {
	case "deployment", "deployments", "deploy", "deployment.apps", "deployments.apps":
	default:
		return "", fmt.Errorf("%s: only a Deployment can be named here: deployment/NAME", text)
	}
	if name == "" || strings.Contains(name, "/") {
		return "", fmt.Errorf("%s: name one Deployment: deployment/NAME", text)
	}
	return name, nil
}

// newRolloutAct makes a command that changes a Deployment and then says what
// rollout there is.
func newRolloutAct(cluster *cluster, verb, done, short string, change func(*appsv1.Deployment) error) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " deployment/NAME",
		Short: short,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			name, err := rolloutTarget(args)
			if err != nil {
				return err
			}
			conn, err := cluster.connect()
			if err != nil {
				return err
			}
			deployment := &appsv1.Deployment{}
			if err := conn.client.Get(c.Context(), client.ObjectKey{Namespace: conn.namespace, Name: name}, deployment); err != nil {
				return err
			}
			before := deployment.DeepCopy()
			if err := change(deployment); err != nil {
				return fmt.Errorf("deployment/%s: %w", name, err)
			}
			if err := conn.client.Patch(c.Context(), deployment, client.MergeFrom(before), client.FieldOwner(fieldManager)); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "deployment.apps/%s %s\n", name, done)
			return tellBegun(c.Context(), conn, name, deployment.Generation, 0, c.OutOrStdout())
		},
	}
}

func pause(d *appsv1.Deployment) error {
	if d.Spec.Paused {
		return errors.New("is already paused")
	}
	d.Spec.Paused = true
	return nil
}

func resume(d *appsv1.Deployment) error {
	if !d.Spec.Paused {
		return errors.New("is not paused")
	}
	d.Spec.Paused = false
	return nil
}

func restart(d *appsv1.Deployment) error {
	if d.Spec.Paused {
		return fmt.Errorf("is paused; first: windlass rollout resume deployment/%s", d.Name)
	}
	const restartedAt = "kubectl.kubernetes.io/restartedAt"
	now := time.Now().Format(time.RFC3339)
	if d.Spec.Template.Annotations[restartedAt] == now {
		return errors.New("was restarted within this second")
	}
	if d.Spec.Template.Annotations == nil {
		d.Spec.Template.Annotations = map[string]string{}
	}
	d.Spec.Template.Annotations[restartedAt] = now
	return nil
}

func newRolloutUndo(cluster *cluster) *cobra.Command {
	var revision int64
	cmd := &cobra.Command{
		Use:   "undo deployment/NAME",
		Short: "Go back to an earlier revision",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			name, err := rolloutTarget(args)
			if err != nil {
				return err
			}
			conn, err := cluster.connect()
			if err != nil {
				return err
			}
			return undo(c.Context(), conn, name, revision, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	cmd.Flags().Int64Var(&revision, "to-revision", 0, "the revision to go back to; 0 is the latest before this one whose rollout was complete")
	return cmd
}

func undo(ctx context.Context, conn *connection, name string, revision int64, out, errOut io.Writer) error {
	if revision < 0 {
		return fmt.Errorf("--to-revision=%d: revisions count from 1; 0 is the latest that was complete before", revision)
	}
	deployment := &appsv1.Deployment{}
	key := client.ObjectKey{Namespace: conn.namespace, Name: name}
	if err := conn.client.Get(ctx, key, deployment); err != nil {
		return err
	}
	if deployment.Spec.Paused {
		return fmt.Errorf("deployment/%s is paused; first: windlass rollout resume deployment/%s", name, name)
	}
	if _, applied := deployment.Annotations[corev1.LastAppliedConfigAnnotation]; applied {
		fmt.Fprintf(errOut, "Warning: deployment/%s is managed with apply: apply its old manifest too, or the next apply brings the change back\n", name)
	}
	if revision == 0 {
		var sets appsv1.ReplicaSetList
		if err := conn.client.List(ctx, &sets, client.InNamespace(conn.namespace)); err != nil {
			return err
		}
		to, notes, err := rolloutview.Back(deployment, sets.Items)
		if err != nil {
			return fmt.Errorf("deployment/%s: %w", name, err)
		}
		printLines(errOut, notes)
		revision = to
	}
	clients, err := kubernetes.NewForConfig(conn.config)
	if err != nil {
		return err
	}
	rollbacker, err := polymorphichelpers.RollbackerFor(appsv1.SchemeGroupVersion.WithKind("Deployment").GroupKind(), clients)
	if err != nil {
		return err
	}
	was, from := deployment.Generation, rolloutview.Current(deployment)
	result, err := rollbacker.Rollback(deployment, nil, revision, cmdutil.DryRunNone)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "deployment.apps/%s %s\n", name, result)
	if err := conn.client.Get(ctx, key, deployment); err != nil {
		return err
	}
	if deployment.Generation == was {
		from = 0 // nothing has begun
	}
	return tellBegun(ctx, conn, name, deployment.Generation, from, out)
}

// tellBegun says which rollout there is once the controller has seen a
// generation of a Deployment, one with a revision after the given one: the
// generation is noted before the revision. That it is not seen in time is no error: what was
// to be done has been done.
func tellBegun(ctx context.Context, conn *connection, name string, generation, after int64, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	feed, err := openFeed(ctx, conn, name)
	if err != nil {
		return err
	}
	defer feed.close()
	for {
		facts, err := feed.facts(ctx)
		if err != nil {
			return err
		}
		if d := facts.Deployment; d.Status.ObservedGeneration >= generation {
			record := rolloutview.Record(facts, rolloutview.Current(d))
			if record != nil && record.Spec.Revision > after && record.Status.Phase != "" && (record.Status.Phase == v1alpha1.RolloutPaused) == d.Spec.Paused {
				printLines(out, rolloutview.Summary(record, time.Now()))
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-feed.changed:
		}
	}
}

func printLines(out io.Writer, lines []string) {
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
}
