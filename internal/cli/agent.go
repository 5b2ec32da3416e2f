package cli

import (
	"os"

	"github.com/spf13/cobra"

	"windlass.dev/windlass/internal/server"
)

// tokenVariable is where the agent finds its token when no flag gives it: other
// users of the machine see command lines.
const tokenVariable = "WINDLASS_TOKEN"

func newAgent() *cobra.Command {
	var options server.AgentOptions
	var node nodeFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Join this machine to a cluster as a node: agent, service proxy and DNS",
		Long: `Join this machine to a cluster as a node, and run what a node runs: agent,
service proxy and DNS.

The first time it takes --server and --token, which ` + "`windlass token create`" + ` prints on
the server's machine. The machine gets a certificate of its own, which it keeps in
DIR/node and renews; from then on it needs no token.

SIGTERM stops the agent and leaves the containers running; started again on the
same directory it takes them over. While the server cannot be reached, containers
and Services go on as they are.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := node.complete(&options.NodeOptions); err != nil {
				return err
			}
			if options.Token == "" {
				options.Token = os.Getenv(tokenVariable)
			}
			return server.RunAgent(c.Context(), options)
		},
	}
	node.add(cmd, &options.NodeOptions)
	cmd.Flags().StringVar(&options.Server, "server", "", "URL of the API server, https://HOST:6443 (default: the one joined before)")
	cmd.Flags().StringVar(&options.Token, "token", "", "token to join with (default: $"+tokenVariable+"; not needed where the machine has joined before)")
	return cmd
}
