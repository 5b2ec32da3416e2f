package agent

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"
)

// safeSysctls are the kernel parameters that a pod may set without asking: they
// are the pod's own and can neither harm the node nor other pods
// (https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/).
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem",
}

// checkSysctls refuses kernel parameters that are not the pod's own, or not safe
// and not allowed by the node: names, or beginnings that end in a star.
func checkSysctls(pod *corev1.Pod, allowed []string) error {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	for _, parameter := range pod.Spec.SecurityContext.Sysctls {
		name := sysctl.NormalizeName(parameter.Name)
		namespace, _, _ := sysctl.GetNamespace(name)
		switch {
		case namespace == sysctl.UnknownNamespace || !matches(name, safeSysctls) && !matches(name, allowed):
			return fmt.Errorf("%q not allowlisted", parameter.Name)
		case namespace == sysctl.NetNamespace && pod.Spec.HostNetwork:
			return fmt.Errorf("%q not allowed with host net enabled", parameter.Name)
		case namespace == sysctl.IPCNamespace && pod.Spec.HostIPC:
			return fmt.Errorf("%q not allowed with host ipc enabled", parameter.Name)
		}
	}
	return nil
}

func matches(name string, patterns []string) bool {
	for _, pattern := range patterns {
		if beginning, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, beginning) || pattern == name {
			return true
		}
	}
	return false
}

// sysctlsOf are a pod's kernel parameters by their dotted names.
func sysctlsOf(sc *corev1.PodSecurityContext) map[string]string {
	if len(sc.Sysctls) == 0 {
		return nil
	}
	parameters := map[string]string{}
	for _, parameter := range sc.Sysctls {
		parameters[sysctl.NormalizeName(parameter.Name)] = parameter.Value
	}
	return parameters
}
