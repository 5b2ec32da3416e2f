package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"windlass.dev/windlass/internal/server"
)

func TestNodePolicy(t *testing.T) {
	for _, test := range []struct{ args, err string }{
		{"", ""},
		{"--system-reserved=cpu=500m,memory=1Gi --pod-max-pids=100 --allowed-unsafe-sysctls=net.core.*", ""},
		{"--system-reserved=gpu=1", `"gpu=1": no such resource`},
		{"--system-reserved=cpu=-1", `"cpu=-1": give an amount`},
		{"--system-reserved=cpu", `"cpu": give an amount`},
		{"--eviction-hard=memory.available<5%", ""},
		{"--eviction-soft=memory.available<5% --eviction-soft-grace-period=memory.available=1m", ""},
		{"--eviction-soft=memory.available<5%", "--eviction-soft-grace-period: memory.available has no grace period"},
		{"--eviction-max-pod-grace-period=-1", "--eviction-max-pod-grace-period -1: "},
		{"--eviction-hard=memory<5%", `--eviction-hard: "memory<5%" is no threshold`},
		{"--pod-max-pids=-1", "--pod-max-pids -1"},
	} {
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		read := nodePolicyFlags(flags)
		if err := flags.Parse(strings.Fields(test.args)); err != nil {
			t.Fatal(err)
		}
		policy, err := read()
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", test.args, err)
			}
			continue
		}
		if err != nil || strings.Contains(test.args, "500m") && (policy.SystemReserved.Cpu().MilliValue() != 500 || policy.PodMaxPids != 100 || len(policy.AllowedUnsafeSysctls) != 1) {
			t.Errorf("%s: %+v, %v", test.args, policy, err)
		}
	}
}

func TestNodeFlags(t *testing.T) {
	for _, test := range []struct{ args, err string }{
		{"", ""},
		{"--container-log-max-size=1Mi --container-log-max-files=3", ""},
		{"--container-log-max-size=0", `--container-log-max-size "0": give a size`},
		{"--container-log-max-size=large", `--container-log-max-size "large": give a size`},
		{"--container-log-max-files=1", "--container-log-max-files 1: give 2"},
	} {
		var node nodeFlags
		var options server.NodeOptions
		cmd := &cobra.Command{}
		node.add(cmd, &options)
		if err := cmd.ParseFlags(strings.Fields(test.args)); err != nil {
			t.Fatal(err)
		}
		want := server.DefaultLogLimits
		if strings.Contains(test.args, "=1Mi") {
			want = server.LogLimits{Bytes: 1 << 20, Files: 3}
		}
		switch err := node.complete(&options); {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", test.args, err)
			}
		case err != nil || options.Logs != want:
			t.Errorf("%s: %+v, %v", test.args, options.Logs, err)
		}
	}
}
