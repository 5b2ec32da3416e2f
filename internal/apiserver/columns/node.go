package columns

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The labels that give a node its roles: by their ends, and by their value.
const (
	rolePrefix = "node-role.kubernetes.io/"
	roleLabel  = "kubernetes.io/role"
)

var (
	nodeInfoDocs   = corev1.NodeSystemInfo{}.SwaggerDoc()
	nodeStatusDocs = corev1.NodeStatus{}.SwaggerDoc()

	nodes = tableOf(nodeCells,
		nameColumn,
		text("Status", "The status of the node"),
		text("Roles", "The roles of the node"),
		ageColumn,
		text("Version", nodeInfoDocs["kubeletVersion"]),
		wide(text("Internal-IP", nodeStatusDocs["addresses"])),
		wide(text("External-IP", nodeStatusDocs["addresses"])),
		wide(text("OS-Image", nodeInfoDocs["osImage"])),
		wide(text("Kernel-Version", nodeInfoDocs["kernelVersion"])),
		wide(text("Container-Runtime", nodeInfoDocs["containerRuntimeVersion"])))
)

func nodeCells(n *corev1.Node, now time.Time) []any {
	info := &n.Status.NodeInfo
	return []any{
		n.Name,
		nodeStatus(n),
		or(strings.Join(roles(n.Labels), ","), none),
		age(&n.ObjectMeta, now),
		info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP),
		nodeAddress(n, corev1.NodeExternalIP),
		or(info.OSImage, unknown),
		or(info.KernelVersion, unknown),
		or(info.ContainerRuntimeVersion, unknown),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, condition := range n.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if condition.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func roles(labels map[string]string) []string {
	var found []string
	for key, value := range labels {
		if role, is := strings.CutPrefix(key, rolePrefix); is && role != "" {
			found = append(found, role)
		} else if key == roleLabel && value != "" {
			found = append(found, value)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, address := range n.Status.Addresses {
		if address.Type == kind {
			return address.Address
		}
	}
	return none
}
