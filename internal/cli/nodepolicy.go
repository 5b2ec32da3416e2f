package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"windlass.dev/windlass/internal/server"
)

// nodePolicyFlags adds the flags that say how a node husbands what it has, and
// returns what reads them into a policy.
func nodePolicyFlags(flags *pflag.FlagSet) func() (server.Policy, error) {
	var reserved []string
	var policy server.Policy
	flags.StringSliceVar(&reserved, "system-reserved", nil, "of the node's resources, not for pods: cpu=500m,memory=1Gi,ephemeral-storage=10Gi")
	flags.Int64Var(&policy.PodMaxPids, "pod-max-pids", defaultPodMaxPids, "the most processes and threads of one pod; 0 is no limit")
	flags.StringSliceVar(&policy.AllowedUnsafeSysctls, "allowed-unsafe-sysctls", nil, "kernel parameters that pods may set beside the safe ones; a star at the end matches every ending: kernel.msg*,net.core.somaxconn")
	hard := flags.String("eviction-hard", server.DefaultEviction, "how little of the node may be left before pods are evicted: memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree, pid.available, each below a quantity or a part; empty is never")
	soft := flags.String("eviction-soft", "", "the same, but a threshold has to be met for as long as --eviction-soft-grace-period says: memory.available<300Mi")
	graces := flags.String("eviction-soft-grace-period", "", "how long each threshold of --eviction-soft has to be met: memory.available=1m30s")
	podGrace := flags.Int("eviction-max-pod-grace-period", 0, "seconds that a pod evicted by --eviction-soft has to end in, at most")
	flags.DurationVar(&policy.PressureLasts, "eviction-pressure-transition-period", 5*time.Minute, "how long the node's conditions say so after it was last short of something")
	return func() (server.Policy, error) {
		var err error
		if policy.Eviction, err = server.ParseEviction(*hard); err != nil {
			return policy, fmt.Errorf("--eviction-hard: %w", err)
		}
		patient, err := server.ParseEviction(*soft)
		if err != nil {
			return policy, fmt.Errorf("--eviction-soft: %w", err)
		}
		if patient, err = server.WithGrace(patient, *graces); err != nil {
			return policy, fmt.Errorf("--eviction-soft-grace-period: %w", err)
		}
		policy.Eviction = append(policy.Eviction, patient...)
		if policy.SoftEvictionGrace = time.Duration(*podGrace) * time.Second; *podGrace < 0 {
			return policy, fmt.Errorf("--eviction-max-pod-grace-period %d: give a number of seconds that is not negative", *podGrace)
		}
		if policy.SystemReserved, err = parseReserved(reserved); err != nil {
			return policy, err
		}
		if policy.PodMaxPids < 0 {
			return policy, fmt.Errorf("--pod-max-pids %d: give the most processes that a pod may have, or 0 for no limit", policy.PodMaxPids)
		}
		return policy, nil
	}
}

// defaultPodMaxPids leaves a fork bomb in a pod far from the kernel's own limit
// and is more than any ordinary program uses.
const defaultPodMaxPids = 16384

// parseReserved reads --system-reserved.
func parseReserved(pairs []string) (corev1.ResourceList, error) {
	list := corev1.ResourceList{}
	for _, pair := range pairs {
		name, text, _ := strings.Cut(pair, "=")
		switch corev1.ResourceName(name) {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		default:
			return nil, fmt.Errorf("--system-reserved %q: no such resource: give cpu, memory or ephemeral-storage with an amount, such as cpu=500m,memory=1Gi", pair)
		}
		quantity, err := resource.ParseQuantity(text)
		if err != nil || quantity.Sign() < 0 {
			return nil, fmt.Errorf("--system-reserved %q: give an amount, such as cpu=500m,memory=1Gi", pair)
		}
		list[corev1.ResourceName(name)] = quantity
	}
	return list, nil
}
