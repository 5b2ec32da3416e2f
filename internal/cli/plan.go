package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"windlass.dev/windlass/internal/foresight"
)

// The exit codes of plan.
const (
	planBlocked = 1 // the change cannot succeed
	planUnknown = 2 // wrong usage, or it could not be found out
)

// planOptions are what plan was asked.
type planOptions struct {
	cluster  *cluster
	files    resource.FilenameOptions
	images   []string
	replicas int32
	resized  bool // --replicas was given
	output   string
	dataDir  string
}

func newPlan() *cobra.Command {
	o := &planOptions{}
	cmd := &cobra.Command{
		Use:   "plan (-f FILE | deployment/NAME [--image [CONTAINER=]IMAGE]... [--replicas N])",
		Short: "Say what a change would do, what would block it and how long it takes, and change nothing",
		Long: `Say what a change would do, before anything is touched: what changes, the steps
that the controller will take with the numbers that rounding gives, what would
block them and how to mend it, and how long it should take.

Nothing is changed: the API server is asked for dry runs. The exit code is 0 if
the change can succeed or there is nothing to do, 1 if it cannot, 2 if that
could not be found out.`,
		Example: `  # What would kubectl apply do?
  windlass plan -f shop.yaml

  # What would kubectl set image do?
  windlass plan deployment/web --image web=web:2`,
		RunE: func(c *cobra.Command, args []string) error {
			o.resized = c.Flags().Changed("replicas")
			plan, err := o.plan(c.Context(), args)
			if err != nil {
				fmt.Fprintln(os.Stderr, "windlass plan:", err)
				return exitError{planUnknown}
			}
			return o.tell(plan, os.Stdout)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		fmt.Fprintln(os.Stderr, "windlass plan:", err)
		return exitError{planUnknown}
	})
	o.cluster = clusterFlags(cmd)
	flags := cmd.Flags()
	flags.StringSliceVarP(&o.files.Filenames, "filename", "f", nil, "file, directory or URL with what would be applied; - is standard input")
	flags.BoolVarP(&o.files.Recursive, "recursive", "R", false, "go into the subdirectories of a directory")
	flags.StringArrayVar(&o.images, "image", nil, "the image that a container would get; the container's name may be left out if there is one")
	flags.Int32Var(&o.replicas, "replicas", 0, "the number of pods that there would be")
	flags.StringVarP(&o.output, "output", "o", "text", "text, json or yaml")
	flags.StringVar(&o.dataDir, "data-dir", defaultDataDir, "directory of a node's data, for its configuration of registries")
	return cmd
}

// plan asks the cluster.
func (o *planOptions) plan(ctx context.Context, args []string) (*foresight.Plan, error) {
	if err := o.check(args); err != nil {
		return nil, err
	}
	conn, err := o.cluster.connect()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(conn.config)
	if err != nil {
		return nil, err
	}
	p := &planner{client: client, options: o, now: time.Now(), files: map[string]map[foresight.Object]foresight.Found{}}
	if len(o.files.Filenames) > 0 {
		return p.planFiles(ctx)
	}
	return p.planWorkload(ctx, conn.namespace, args)
}

// check says what is wrong with the command line.
func (o *planOptions) check(args []string) error {
	switch {
	case o.output != "text" && o.output != "json" && o.output != "yaml":
		return fmt.Errorf("-o %s: use text, json or yaml", o.output)
	case len(o.files.Filenames) > 0 && (len(args) > 0 || len(o.images) > 0 || o.resized):
		return errors.New("-f says all that would change: leave out the name, --image and --replicas")
	case len(o.files.Filenames) > 0:
		return nil
	case len(args) == 0:
		return errors.New("say what would change: -f FILE, or deployment/NAME with --image or --replicas")
	case len(o.images) == 0 && !o.resized:
		return errors.New("say what would change: --image or --replicas")
	case o.resized && o.replicas < 0:
		return fmt.Errorf("--replicas %d: it must be 0 or more", o.replicas)
	}
	return nil
}

// tell prints a plan and returns the exit code that it means, nil for 0.
func (o *planOptions) tell(plan *foresight.Plan, out io.Writer) error {
	succeeds := plan.Judge()
	var text []byte
	var err error
	switch o.output {
	case "json":
		text, err = json.MarshalIndent(plan, "", "  ")
		text = append(text, '\n')
	case "yaml":
		text, err = yaml.Marshal(plan)
	default:
		text = []byte(plan.String())
	}
	if err == nil {
		_, err = out.Write(text)
	}
	if err != nil {
		return err
	}
	if !succeeds {
		return exitError{planBlocked}
	}
	return nil
}
