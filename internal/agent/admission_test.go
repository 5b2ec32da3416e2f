package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func asking(requests ...string) *corev1.Pod {
	list := corev1.ResourceList{}
	for i := 0; i < len(requests); i += 2 {
		list[corev1.ResourceName(requests[i])] = resource.MustParse(requests[i+1])
	}
	return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list}}}}}
}

func taking(ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: ports}}}}
}

func TestAdmission(t *testing.T) {
	port := func(number int32, protocol corev1.Protocol, ip string) corev1.ContainerPort {
		return corev1.ContainerPort{ContainerPort: 80, HostPort: number, Protocol: protocol, HostIP: ip}
	}
	bySidecar := asking()
	bySidecar.Spec.InitContainers = []corev1.Container{{RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{port(80, "", "")}}}
	byInit := asking()
	byInit.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{port(80, "", "")}}}
	const noPorts = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
	allocatable := asking("cpu", "2", "memory", "1Gi", "ephemeral-storage", "1Gi", "pods", "4").Spec.Containers[0].Resources.Requests
	in := []*corev1.Pod{asking("cpu", "1500m", "memory", "512Mi"), asking()}
	overhead := asking("cpu", "400m")
	overhead.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m")}
	podLevel := asking()
	podLevel.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Gi")}}
	sidecar := asking("cpu", "300m")
	sidecar.Spec.InitContainers = []corev1.Container{{RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Resources: sidecar.Spec.Containers[0].Resources}}
	important := asking()
	important.Spec.Priority = ptr.To[int32](2_000_000_000)
	parameter := asking()
	parameter.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.msgmax", Value: "1"}}}
	tolerant := asking()
	tolerant.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}}
	memory, disk := []corev1.NodeConditionType{corev1.NodeMemoryPressure}, []corev1.NodeConditionType{corev1.NodeDiskPressure}
	for _, test := range []struct {
		name            string
		pod             *corev1.Pod
		more            []*corev1.Pod
		pressures       []corev1.NodeConditionType
		reason, message string
	}{
		{"fits exactly", asking("cpu", "500m", "memory", "512Mi"), nil, nil, "", ""},
		{"CPU", asking("cpu", "501m"), nil, nil, "OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"},
		{"memory", asking("memory", "513Mi"), nil, nil, "OutOfmemory", "Pod was rejected: Node didn't have enough resource: memory, requested: 537919488, used: 536870912, capacity: 1073741824"},
		{"disk", asking("ephemeral-storage", "2Gi"), nil, nil, "OutOfephemeral-storage", "Pod was rejected: Node didn't have enough resource: ephemeral-storage, requested: 2147483648, used: 0, capacity: 1073741824"},
		{"huge pages", asking("hugepages-2Mi", "4Mi"), nil, nil, "OutOfhugepages-2Mi", "Pod was rejected: Node didn't have enough resource: hugepages-2Mi, requested: 4194304, used: 0, capacity: 0"},
		{"something that no agent gives", asking("example.org/gpu", "1"), nil, nil, "", ""},
		{"pods", asking(), []*corev1.Pod{asking(), asking()}, nil, "OutOfpods", "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 4, capacity: 4"},
		{"a port that is taken", taking(port(80, "", "")), []*corev1.Pod{taking(port(80, "TCP", "0.0.0.0"))}, nil, "NodePorts", noPorts},
		{"a port that is taken at one address", taking(port(80, "", "")), []*corev1.Pod{taking(port(80, "TCP", "10.0.0.1"))}, nil, "NodePorts", noPorts},
		{"a port of a sidecar", bySidecar, []*corev1.Pod{taking(port(80, "", ""))}, nil, "NodePorts", noPorts},
		{"a port of an init container", byInit, []*corev1.Pod{taking(port(80, "", ""))}, nil, "", ""},
		{"a port of another protocol", taking(port(80, "UDP", "")), []*corev1.Pod{taking(port(80, "TCP", ""))}, nil, "", ""},
		{"another port", taking(port(81, "", "")), []*corev1.Pod{taking(port(80, "", ""))}, nil, "", ""},
		{"a port at another address", taking(port(80, "", "10.0.0.2")), []*corev1.Pod{taking(port(80, "", "10.0.0.1"))}, nil, "", ""},
		{"a port of its own", taking(corev1.ContainerPort{ContainerPort: 80}), []*corev1.Pod{taking(corev1.ContainerPort{ContainerPort: 80})}, nil, "", ""},
		{"with its overhead", overhead, nil, nil, "OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"},
		{"of the pod as a whole", podLevel, nil, nil, "OutOfmemory", "Pod was rejected: Node didn't have enough resource: memory, requested: 2147483648, used: 536870912, capacity: 1073741824"},
		{"with its sidecar", sidecar, nil, nil, "OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"},
		{"unsafe parameter", parameter, nil, nil, "SysctlForbidden", `Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted`},
		{"best effort, no memory", asking(), nil, memory, "Evicted", "Pod was rejected: The node had condition: [MemoryPressure]. "},
		{"burstable, no memory", asking("cpu", "1m"), nil, memory, "", ""},
		{"tolerates", tolerant, nil, memory, "", ""},
		{"no disk", asking("cpu", "1m"), nil, disk, "Evicted", "Pod was rejected: The node had condition: [DiskPressure]. "},
		{"critical", important, nil, disk, "", ""},
	} {
		d := door{pods: append(in[:2:2], test.more...), allocatable: allocatable, pressures: test.pressures}
		verdict := d.admit(test.pod)
		if verdict == nil {
			verdict = &Verdict{}
		}
		if verdict.Reason != test.reason || verdict.Message != test.message {
			t.Errorf("%s: %s (%s), want %s (%s)", test.name, verdict.Reason, verdict.Message, test.reason, test.message)
		}
	}
}

func TestSysctls(t *testing.T) {
	for _, test := range []struct {
		name             string
		hostNet, hostIPC bool
		err              string
	}{
		{"net.ipv4.tcp_syncookies", false, false, ""},
		{"net/ipv4/ip_local_port_range", false, false, ""},
		{"kernel.shm_rmid_forced", false, true, `"kernel.shm_rmid_forced" not allowed with host ipc enabled`},
		{"net.ipv4.tcp_syncookies", true, false, `"net.ipv4.tcp_syncookies" not allowed with host net enabled`},
		{"net.core.somaxconn", false, false, ""}, // by the pattern
		{"kernel.msgmax", false, false, ""},      // by the name
		{"kernel.msgmnb", false, false, `"kernel.msgmnb" not allowlisted`},
		{"vm.swappiness", false, false, `"vm.swappiness" not allowlisted`}, // though the node allows it: it is not the pod's own
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{HostNetwork: test.hostNet, HostIPC: test.hostIPC, SecurityContext: &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: test.name}}}}}
		got := ""
		if err := checkSysctls(pod, []string{"net.core.*", "kernel.msgmax", "vm.swappiness"}); err != nil {
			got = err.Error()
		}
		if got != test.err {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

func TestAllocatable(t *testing.T) {
	a := &Agent{cfg: Config{MaxPods: 3}, node: &nodeFacts{cpus: 2, memory: 1 << 30, disk: 1 << 30}}
	a.cfg.Policy.SystemReserved = asking("cpu", "500m", "memory", "2Gi").Spec.Containers[0].Resources.Requests
	list := a.allocatable()
	if list.Cpu().MilliValue() != 1500 || list.Memory().Value() != 0 || list.Pods().Value() != 3 || list.StorageEphemeral().Value() != 1<<30 {
		t.Errorf("%v", list)
	}
}
