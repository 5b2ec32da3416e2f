package cli

import (
	"net/netip"

	"github.com/spf13/cobra"

	"windlass.dev/windlass/internal/server"
)

func newReset() *cobra.Command {
	options := server.Options{
		PodRange:     netip.MustParsePrefix(defaultPodRange),
		ServiceRange: netip.MustParsePrefix(defaultServiceRange),
	}
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "End all containers of this node's data directory",
		Long: `End all containers of this node's data directory and remove their networks.

The cluster's state and the images stay. The server must be stopped first.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return server.Reset(c.Context(), options) },
	}
	dataDirFlag(cmd, &options.DataDir)
	cmd.Flags().StringVar(&options.Runtime, "runtime", "runc", "OCI runtime: a name on the PATH or a path")
	return cmd
}
