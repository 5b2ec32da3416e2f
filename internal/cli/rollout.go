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
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
		Short: "Watch, explain and steer the rollouts of Deployments and StatefulSets",
		Long: `Watch, explain and steer the rollouts of Deployments and StatefulSets.

The cluster is found as kubectl finds it: KUBECONFIG, --kubeconfig, --context.
A Deployment is named deployment/NAME, deploy/NAME or NAME, a StatefulSet
statefulset/NAME or sts/NAME.`,
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

// target is a workload that a user names.
type target struct{ kind, name string }

const (
	kindDeployment  = "deployment"
	kindStatefulSet = "statefulset"
)

func (t target) String() string { return t.kind + "/" + t.name }

// object returns an object of the kind.
func (t target) object() client.Object {
	if t.kind == kindStatefulSet {
		return &appsv1.StatefulSet{}
	}
	return &appsv1.Deployment{}
}

// groupKind returns the kind as the API has it.
func (t target) groupKind() schema.GroupKind {
	if t.kind == kindStatefulSet {
		return appsv1.SchemeGroupVersion.WithKind("StatefulSet").GroupKind()
	}
	return appsv1.SchemeGroupVersion.WithKind("Deployment").GroupKind()
}

// rolloutTarget reads what a user calls a workload: deployment/NAME, statefulset/NAME,
// the same as two words, or the NAME of a Deployment.
func rolloutTarget(args []string) (target, error) {
	text := strings.Join(args, "/")
	kind, name, ok := strings.Cut(text, "/")
	if !ok {
		kind, name = kindDeployment, text
	}
	switch strings.ToLower(kind) {
	case "deployment", "deployments", "deploy", "deployment.apps", "deployments.apps":
		kind = kindDeployment
	case "statefulset", "statefulsets", "sts", "statefulset.apps", "statefulsets.apps":
		kind = kindStatefulSet
	default:
		return target{}, fmt.Errorf("%s: only a Deployment or a StatefulSet can be named here: deployment/NAME, statefulset/NAME", text)
	}
	if name == "" || strings.Contains(name, "/") {
		return target{}, fmt.Errorf("%s: name one: deployment/NAME or statefulset/NAME", text)
	}
	return target{kind, name}, nil
}

// onTarget makes the run of a command that does something about a workload which
// its arguments name, over a connection to the cluster.
func (c *cluster) onTarget(do func(*cobra.Command, *connection, target) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		target, err := rolloutTarget(args)
		if err != nil {
			return err
		}
		conn, err := c.connect()
		if err != nil {
			return err
		}
		return do(command, conn, target)
	}
}

// newRolloutAct makes a command that changes a workload and then says what rollout
// there is.
func newRolloutAct(cluster *cluster, verb, done, short string, change func(client.Object) error) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " deployment/NAME",
		Short: short,
		Args:  cobra.RangeArgs(1, 2),
		RunE: cluster.onTarget(func(c *cobra.Command, conn *connection, target target) error {
			object := target.object()
			if err := conn.client.Get(c.Context(), client.ObjectKey{Namespace: conn.namespace, Name: target.name}, object); err != nil {
				return err
			}
			before := object.DeepCopyObject().(client.Object)
			if err := change(object); err != nil {
				return fmt.Errorf("%s: %w", target, err)
			}
			if err := conn.client.Patch(c.Context(), object, client.MergeFrom(before), client.FieldOwner(fieldManager)); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s.apps/%s %s\n", target.kind, target.name, done)
			return tellBegun(c.Context(), conn, target, object.GetGeneration(), left(before, object), c.OutOrStdout())
		}),
	}
}

// left returns the revision that a change of a Deployment's template leaves, 0 for
// any other change. A StatefulSet notes its generation and revision at once.
func left(before, after client.Object) int64 {
	was, is := before.(*appsv1.Deployment)
	if !is || equality.Semantic.DeepEqual(was.Spec.Template, after.(*appsv1.Deployment).Spec.Template) {
		return 0
	}
	return rolloutview.Current(was)
}

// errNoPause is why a StatefulSet cannot be paused or resumed.
var errNoPause = errors.New("has no pause; to hold pods back, set spec.updateStrategy.rollingUpdate.partition")

func pause(object client.Object) error {
	d, is := object.(*appsv1.Deployment)
	switch {
	case !is:
		return errNoPause
	case d.Spec.Paused:
		return errors.New("is already paused")
	}
	d.Spec.Paused = true
	return nil
}

func resume(object client.Object) error {
	d, is := object.(*appsv1.Deployment)
	switch {
	case !is:
		return errNoPause
	case !d.Spec.Paused:
		return errors.New("is not paused")
	}
	d.Spec.Paused = false
	return nil
}

func restart(object client.Object) error {
	const restartedAt = "kubectl.kubernetes.io/restartedAt"
	var template *corev1.PodTemplateSpec
	switch o := object.(type) {
	case *appsv1.Deployment:
		if template = &o.Spec.Template; o.Spec.Paused {
			return fmt.Errorf("is paused; first: windlass rollout resume deployment/%s", o.Name)
		}
	case *appsv1.StatefulSet:
		template = &o.Spec.Template
	default:
		return fmt.Errorf("is a %T, which cannot be restarted", object)
	}
	now := time.Now().Format(time.RFC3339)
	if template.Annotations[restartedAt] == now {
		return errors.New("was restarted within this second")
	}
	if template.Annotations == nil {
		template.Annotations = map[string]string{}
	}
	template.Annotations[restartedAt] = now
	return nil
}

func newRolloutUndo(cluster *cluster) *cobra.Command {
	var revision int64
	cmd := &cobra.Command{
		Use:   "undo deployment/NAME",
		Short: "Go back to an earlier revision",
		Args:  cobra.RangeArgs(1, 2),
		RunE: cluster.onTarget(func(c *cobra.Command, conn *connection, target target) error {
			return undo(c.Context(), conn, target, revision, c.OutOrStdout(), c.ErrOrStderr())
		}),
	}
	cmd.Flags().Int64Var(&revision, "to-revision", 0, "the revision to go back to; 0 is the latest before this one whose rollout was complete")
	return cmd
}

func undo(ctx context.Context, conn *connection, target target, revision int64, out, errOut io.Writer) error {
	if revision < 0 {
		return fmt.Errorf("--to-revision=%d: revisions count from 1; 0 is the latest that was complete before", revision)
	}
	object := target.object()
	key := client.ObjectKey{Namespace: conn.namespace, Name: target.name}
	if err := conn.client.Get(ctx, key, object); err != nil {
		return err
	}
	if d, is := object.(*appsv1.Deployment); is && d.Spec.Paused {
		return fmt.Errorf("%s is paused; first: windlass rollout resume %s", target, target)
	}
	if _, applied := object.GetAnnotations()[corev1.LastAppliedConfigAnnotation]; applied {
		fmt.Fprintf(errOut, "Warning: %s is managed with apply: apply its old manifest too, or the next apply brings the change back\n", target)
	}
	facts, err := readFacts(ctx, conn.client, object)
	if err != nil {
		return err
	}
	if revision == 0 {
		to, notes, err := rolloutview.Back(facts.Deployment, facts.Sets)
		if err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		printLines(errOut, notes)
		revision = to
	}
	clients, err := kubernetes.NewForConfig(conn.config)
	if err != nil {
		return err
	}
	rollbacker, err := polymorphichelpers.RollbackerFor(target.groupKind(), clients)
	if err != nil {
		return err
	}
	was, from := object.GetGeneration(), rolloutview.Current(facts.Deployment)
	result, err := rollbacker.Rollback(object, nil, revision, cmdutil.DryRunNone)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s.apps/%s %s\n", target.kind, target.name, result)
	if err := conn.client.Get(ctx, key, object); err != nil {
		return err
	}
	if object.GetGeneration() == was {
		from = 0 // nothing has begun
	}
	return tellBegun(ctx, conn, target, object.GetGeneration(), from, out)
}

// tellBegun says which rollout there is once the controller has seen a
// generation of a workload, one with a revision after the given one: the
// generation is noted before the revision. That it is not seen in time is no error: what was
// to be done has been done.
func tellBegun(ctx context.Context, conn *connection, target target, generation, after int64, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	feed, err := openFeed(ctx, conn, target)
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
