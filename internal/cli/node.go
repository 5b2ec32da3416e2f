package cli

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"windlass.dev/windlass/internal/image"
	"windlass.dev/windlass/internal/server"
)

// nodeFlags are those of a machine that is a node.
type nodeFlags struct {
	nodeIP, logLevel string
	policy           func() (server.Policy, error)
	logSize          string
	gc               image.Thresholds
}

// add adds the flags to a command that runs this machine as a node.
func (f *nodeFlags) add(cmd *cobra.Command, options *server.NodeOptions) {
	dataDirFlag(cmd, &options.DataDir)
	flags := cmd.Flags()
	flags.StringVar(&options.NodeName, "node-name", "", "name of this node (default: the host's name)")
	flags.StringVar(&f.nodeIP, "node-ip", "", "address of this node, that other nodes reach (default: found by the routes)")
	flags.StringToStringVar(&options.NodeLabels, "node-label", nil, "label of this node, as name=value; may be repeated")
	flags.IntVar(&options.AgentPort, "agent-port", 10250, "port on which the agent serves the API server: logs and connections to pods")
	flags.StringVar(&options.Runtime, "runtime", "runc", "OCI runtime: a name on the PATH or a path")
	flags.DurationVar(&options.Lease, "node-lease", 40*time.Second, "how long this node counts as alive after it was last heard, in whole seconds; it is heard four times as often")
	f.policy = nodePolicyFlags(flags)
	flags.IntVar(&f.gc.High, "image-gc-high-threshold", image.DefaultThresholds.High, "percent of the disk in use from which on unused images are deleted; 100 is never")
	flags.IntVar(&f.gc.Low, "image-gc-low-threshold", image.DefaultThresholds.Low, "percent of the disk in use down to which unused images are deleted")
	flags.DurationVar(&f.gc.MinAge, "minimum-image-ttl-duration", image.DefaultThresholds.MinAge, "how long an image stays at least")
	flags.StringVar(&f.logSize, "container-log-max-size", "10Mi", "from what size on the file of a container's log is rotated")
	flags.IntVar(&options.Logs.Files, "container-log-max-files", server.DefaultLogLimits.Files, "how many files of a container's log are kept, 2 or more")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
}

// complete reads what the flags said into options.
func (f *nodeFlags) complete(options *server.NodeOptions) error {
	if f.nodeIP != "" {
		var err error
		if options.NodeIP, err = netip.ParseAddr(f.nodeIP); err != nil {
			return fmt.Errorf("--node-ip %q is no IP address: give one of this machine's, such as 192.168.1.10", f.nodeIP)
		}
	}
	if options.Lease < 2*time.Second || options.Lease%time.Second != 0 {
		return fmt.Errorf("--node-lease %v: give whole seconds, 2s or more, such as 40s", options.Lease)
	}
	var err error
	if options.Policy, err = f.policy(); err != nil {
		return err
	}
	size, err := resource.ParseQuantity(f.logSize)
	if err != nil || size.Sign() <= 0 {
		return fmt.Errorf("--container-log-max-size %q: give a size above 0, such as 10Mi", f.logSize)
	}
	if options.Logs.Bytes = size.Value(); options.Logs.Files < 2 {
		return fmt.Errorf("--container-log-max-files %d: give 2 or more", options.Logs.Files)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: use debug, info, warn or error", f.logLevel)
	}
	options.ImageGC, options.Version = &f.gc, version
	options.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return nil
}
