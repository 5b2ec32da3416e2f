package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Windlass on this machine",
	}
	cmd.AddCommand(newBenchRollout())
	return cmd
}

func newBenchRollout() *cobra.Command {
	var b rolloutBench
	var asJSON bool
	var cpuProfile, heapProfile string
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Measure a rolling update of many pods on nodes without containers",
		Long: `Measure a rolling update of many pods on nodes without containers.

A control plane of its own is started in this process, on loopback and in a
temporary directory, with hollow nodes: all of Windlass but what runs containers
and carries their traffic. A Deployment is brought up, its image is changed, and
the time is taken from the change until the Deployment is complete. CPU time and
memory are of this process: API, store, controllers, scheduler, all agents, and
the client that waits.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			stop, err := profileCPU(cpuProfile)
			if err != nil {
				return err
			}
			b.version, b.heapProfile = version, heapProfile
			result, err := b.run(c.Context())
			stop()
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(c.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(result)
			}
			return result.print(c.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&b.replicas, "replicas", 1000, "pods of the Deployment")
	flags.IntVar(&b.nodes, "nodes", 50, "hollow nodes; each has room for 250 pods")
	flags.StringVar(&b.surge, "surge", "25%", "maxSurge")
	flags.StringVar(&b.unavailable, "unavailable", "25%", "maxUnavailable")
	flags.BoolVar(&b.service, "service", false, "have a Service select the pods, so that they are drained as they go")
	flags.StringVar(&b.behaviour, "behaviour", "", "how each container behaves, such as ready-after=2s,stop-takes=1s")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.StringVar(&cpuProfile, "cpu-profile", "", "write a CPU profile to this file, for go tool pprof")
	flags.StringVar(&heapProfile, "heap-profile", "", "write a profile of the heap after the rollout to this file")
	return cmd
}

// profileCPU begins a CPU profile, if a file is named, until stop is called.
func profileCPU(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}

func profileHeap(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--heap-profile: %w", err)
	}
	defer file.Close()
	if err := pprof.Lookup("heap").WriteTo(file, 0); err != nil {
		return fmt.Errorf("--heap-profile: %w", err)
	}
	return nil
}

// rolloutResult is what the rollout bench has measured.
type rolloutResult struct {
	Replicas  int     `json:"replicas"`
	Nodes     int     `json:"nodes"`
	Up        float64 `json:"upSeconds"`       // from the creation until all pods are available
	Rolled    float64 `json:"rollSeconds"`     // from the change until the Deployment is complete
	PerSecond float64 `json:"podsPerSecond"`   // Replicas by Rolled
	CPU       float64 `json:"rollCPUSeconds"`  // of the process, during Rolled
	Writes    int     `json:"rollWrites"`      // that the API made, during Rolled
	Kinds     []count `json:"rollWritesKinds"` // the same by kind, most first
	Peak      int     `json:"peakRSSMB"`       // of the process, from its start
}

// count is how often something was done.
type count struct {
	What  string `json:"what"`
	Times int    `json:"times"`
}

func (r *rolloutResult) print(w io.Writer) error {
	line := func(what, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%-14s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("replicas", "%d on %d hollow nodes", r.Replicas, r.Nodes)
	line("brought up", "%.2f s", r.Up)
	line("rolled", "%.2f s, %.0f pods replaced a second", r.Rolled, r.PerSecond)
	line("CPU", "%.2f s, %.1f ms a pod", r.CPU, 1000*r.CPU/float64(r.Replicas))
	line("API writes", "%d, %.0f a second, %.1f a pod", r.Writes, float64(r.Writes)/r.Rolled, float64(r.Writes)/float64(r.Replicas))
	for _, kind := range r.Kinds {
		line("", "%6d %s", kind.Times, kind.What)
	}
	line("peak memory", "%d MB", r.Peak)
	return nil
}
