package proxy

import (
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/condition"
)

// podPrefix begins the names of the parts of pods, which no Service's can.
const podPrefix = "pod:"

// SetPod adds the host ports of a pod of this node, or replaces those that it
// had. A pod of another node, in the node's network, without an address or that
// has ended has none. The Model keeps the object and never changes it.
func (m *Model) SetPod(pod *corev1.Pod) {
	name := podPrefix + pod.Namespace + "/" + pod.Name
	if _, known := m.services[name]; !known && !m.hasHostPorts(pod) {
		return // as almost all
	}
	e := m.entry(name)
	if e.pod = pod; !m.hasHostPorts(pod) {
		e.pod = nil
	}
	m.dirty[e] = true
}

// DeletePod removes the pod of that namespace and name.
func (m *Model) DeletePod(namespace, name string) {
	if e, known := m.services[podPrefix+namespace+"/"+name]; known {
		e.pod = nil
		m.dirty[e] = true
	}
}

func (m *Model) hasHostPorts(pod *corev1.Pod) bool {
	if pod.Spec.NodeName != m.node.Name || pod.Spec.HostNetwork || pod.Status.PodIP == "" || condition.Ended(pod.Status.Phase) {
		return false
	}
	for range hostPorts(pod) {
		return true
	}
	return false
}

// hostPorts goes through the ports that the long-running containers of a pod take
// on their node.
func hostPorts(pod *corev1.Pod) func(yield func(corev1.ContainerPort) bool) {
	return func(yield func(corev1.ContainerPort) bool) {
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				for _, port := range list[i].Ports {
					if port.HostPort > 0 && port.HostPort <= 65535 && port.ContainerPort > 0 && !yield(port) {
						return
					}
				}
			}
		}
	}
}

// compilePod returns the part of one pod's host ports. New connections go to the
// pod for as long as it has its address: there is no other that could take them.
func compilePod(pod *corev1.Pod) *Part {
	address, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || !address.Is4() {
		return nil
	}
	part := &Part{Name: podPrefix + pod.Namespace + "/" + pod.Name,
		Elements: []Element{{Set: setHairpins, Key: Key{Address: address, Second: address}}}}
	for port := range hostPorts(pod) {
		protocol, ok := protocolOf(port.Protocol)
		if !ok {
			continue
		}
		way := Element{Set: setNodePorts, Key: Key{Protocol: protocol, Port: uint16(port.HostPort)}}
		if host, err := netip.ParseAddr(port.HostIP); err == nil && !host.IsUnspecified() {
			if !host.Is4() {
				continue
			}
			way = Element{Set: setServices, Key: Key{Address: host, Protocol: protocol, Port: uint16(port.HostPort)}}
		}
		if slices.ContainsFunc(part.Elements, func(e Element) bool { return e.slot() == way.slot() }) {
			continue
		}
		name := []string{"hostport", pod.Namespace, pod.Name, protocol.String(), strconv.Itoa(int(port.HostPort))}
		if way.Key.Address.IsValid() {
			name = append(name, way.Key.Address.String())
		}
		way.Goto = boundedName(name...)
		part.Elements = append(part.Elements, way)
		target := netip.AddrPortFrom(address, uint16(port.ContainerPort))
		part.Chains = append(part.Chains, Chain{Name: way.Goto, Rules: []Rule{{protocolIs{protocol}, toOneOf{[]netip.AddrPort{target}}}}})
	}
	sortElements(part)
	return part
}
