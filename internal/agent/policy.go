package agent

import (
	corev1 "k8s.io/api/core/v1"
)

// Policy is how a node husbands what it has.
type Policy struct {
	SystemReserved       corev1.ResourceList // of the capacity, not for pods
	PodMaxPids           int64               // processes and threads of one pod; 0 is no limit
	AllowedUnsafeSysctls []string            // that pods may set; a star at the end matches every ending
}
