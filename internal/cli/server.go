package cli

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"windlass.dev/windlass/internal/server"
)

// The address ranges of a cluster whose user chose none.
const (
	defaultPodRange     = "10.42.0.0/16"
	defaultServiceRange = "10.43.0.0/16"
)

func newServer() *cobra.Command {
	var options server.Options
	var node nodeFlags
	var podRange, serviceRange string
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
			if err := node.complete(&options.NodeOptions); err != nil {
				return err
			}
			return server.Run(c.Context(), options)
		},
	}
	node.add(cmd, &options.NodeOptions)
	flags := cmd.Flags()
	flags.StringVar(&options.Listen, "listen", ":6443", "address of the API")
	flags.StringVar(&podRange, "pod-range", defaultPodRange, "addresses for pods, as a CIDR")
	flags.StringVar(&serviceRange, "service-range", defaultServiceRange, "addresses for Services, as a CIDR")
	flags.DurationVar(&options.NodeCertificateLife, "node-certificate-life", 365*24*time.Hour, "how long the certificates of nodes that join are good; they renew them when a third is left")
	flags.IntVar(&options.HollowNodes, "hollow-nodes", 0, "have so many nodes that run no containers in place of this machine, to try rollouts on; needs no root")
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
