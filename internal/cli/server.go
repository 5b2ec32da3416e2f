package cli

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"windlass.dev/windlass/internal/image"
	"windlass.dev/windlass/internal/server"
)

// The address ranges of a cluster whose user chose none.
const (
	defaultPodRange     = "10.42.0.0/16"
	defaultServiceRange = "10.43.0.0/16"
)

func newServer() *cobra.Command {
	var options server.Options
	gc := image.DefaultThresholds
	var podRange, serviceRange, nodeIP, logLevel string
	var policy func() (server.Policy, error)
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run everything on this machine: store, API, controllers, scheduler, agent, service proxy and DNS",
		Long: `Run everything on this machine in one process: store, API, controllers,
scheduler, agent, service proxy and DNS.

The admin's kubeconfig is written to DIR/kubeconfig; the server is ready when
/readyz says ok. SIGTERM stops the server and leaves the containers running;
started again on the same directory it takes them over.

With --hollow-nodes the control plane is the same, but pods only seem to run:
there is no runtime, no network, no service proxy and no DNS, and an ordinary user can
start it. A container's environment variable HOLLOW, or its image's tag, says how
it behaves: HOLLOW=ready-after=2s,stop-takes=1s,exit-after=5s,exit-code=1 or
httpd:v2-absent, httpd:v2-crash.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if options.PodRange, err = parseRange("--pod-range", podRange); err != nil {
				return err
			}
			if options.ServiceRange, err = parseRange("--service-range", serviceRange); err != nil {
				return err
			}
			if nodeIP != "" {
				if options.NodeIP, err = netip.ParseAddr(nodeIP); err != nil {
					return fmt.Errorf("--node-ip %q is no IP address: give one of this machine's, such as 192.168.1.10", nodeIP)
				}
			}
			if options.Policy, err = policy(); err != nil {
				return err
			}
			var level slog.Level
			if err := level.UnmarshalText([]byte(logLevel)); err != nil {
				return fmt.Errorf("--log-level %q: use debug, info, warn or error", logLevel)
			}
			options.ImageGC, options.Version = &gc, version
			options.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			return server.Run(c.Context(), options)
		},
	}
	dataDirFlag(cmd, &options.DataDir)
	flags := cmd.Flags()
	flags.StringVar(&options.Listen, "listen", ":6443", "address of the API")
	flags.StringVar(&options.NodeName, "node-name", "", "name of this node (default: the host's name)")
	flags.StringVar(&nodeIP, "node-ip", "", "address of this node (default: of the interface with the default route)")
	flags.IntVar(&options.AgentPort, "agent-port", 10250, "port on which the agent serves logs to the API")
	flags.StringVar(&podRange, "pod-range", defaultPodRange, "addresses for pods, as a CIDR")
	flags.StringVar(&serviceRange, "service-range", defaultServiceRange, "addresses for Services, as a CIDR")
	flags.IntVar(&gc.High, "image-gc-high-threshold", image.DefaultThresholds.High, "percent of the disk in use from which on unused images are deleted; 100 is never")
	flags.IntVar(&gc.Low, "image-gc-low-threshold", image.DefaultThresholds.Low, "percent of the disk in use down to which unused images are deleted")
	flags.DurationVar(&gc.MinAge, "minimum-image-ttl-duration", image.DefaultThresholds.MinAge, "how long an image stays at least")
	flags.StringVar(&options.Runtime, "runtime", "runc", "OCI runtime: a name on the PATH or a path")
	flags.IntVar(&options.HollowNodes, "hollow-nodes", 0, "have so many nodes that run no containers in place of this machine, to try rollouts on; needs no root")
	policy = nodePolicyFlags(flags)
	flags.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// parseRange reads an IPv4 network for the flag it is named by.
func parseRange(flag, value string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(value)
	if err != nil || !prefix.Addr().Is4() || prefix.Masked() != prefix {
		return netip.Prefix{}, fmt.Errorf("%s %q is no IPv4 network: write the network's first address and its length, such as 10.42.0.0/16", flag, value)
	}
	return prefix, nil
}
