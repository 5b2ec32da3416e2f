package cli

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
)

// newKubectl embeds kubectl of the Kubernetes version that the API speaks. It
// finds the cluster as kubectl always does.
func newKubectl() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [arguments of kubectl]",
		Short:              "kubectl, of the version that fits this server",
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			arguments := append([]string{"kubectl"}, args...)
			os.Args = arguments // kubectl's own completion and plugins read it
			kubectl := cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{
				PluginHandler: cmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
				Arguments:     arguments,
				IOStreams:     genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
			})
			kubectl.SetArgs(args)
			// Signals end kubectl as they end the stand-alone one, at once, but for
			// those commands that ask for them: it does not look at our context.
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			return kubectl.Execute()
		},
	}
}
