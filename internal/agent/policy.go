package agent

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/eviction"
)

// Policy is how a node husbands what it has.
type Policy struct {
	SystemReserved       corev1.ResourceList  // of the capacity, not for pods
	Eviction             []eviction.Threshold // with a Meter, hard ones and those with a grace: how little there may be of the node before pods are evicted
	SoftEvictionGrace    time.Duration        // the most that a pod gets to end in when a threshold with a grace has it evicted
	PressureLasts        time.Duration        // how long the node's conditions hold after a threshold was last met
	PodMaxPids           int64                // processes and threads of one pod; 0 is no limit
	AllowedUnsafeSysctls []string             // that pods may set; a star at the end matches every ending
}
