package endpointslice

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/util"
	"k8s.io/utils/ptr"
)

// portGroup is the endpoints of a Service that share their ports: a named
// target port may be another number in another pod.
type portGroup struct {
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint // by pod name
}

// group sorts a Service's pods into endpoints by their ports. Pods that have
// ended or have no address of the family are left out; terminating pods are in.
func group(service *corev1.Service, pods []*corev1.Pod, zones map[string]string, family discoveryv1.AddressType) []portGroup {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	var groups []portGroup
	index := map[string]int{}
	for _, pod := range pods {
		if !util.ShouldPodBeInEndpoints(pod, true) {
			continue
		}
		e := endpoint(service, pod, zones, family)
		if len(e.Addresses) == 0 {
			continue
		}
		ports := podPorts(service, pod)
		key := portsKey(ports)
		i, ok := index[key]
		if !ok {
			i = len(groups)
			index[key] = i
			groups = append(groups, portGroup{ports: ports})
		}
		groups[i].endpoints = append(groups[i].endpoints, e)
	}
	return groups
}

// endpoint is a pod as an endpoint of a Service. Its conditions are those of
// https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions:
// a terminating pod is never ready, unless the Service publishes pods that are not.
func endpoint(service *corev1.Service, pod *corev1.Pod, zones map[string]string, family discoveryv1.AddressType) discoveryv1.Endpoint {
	serving := util.IsPodReady(pod)
	terminating := pod.DeletionTimestamp != nil
	e := discoveryv1.Endpoint{
		Addresses: addresses(pod, family),
		Conditions: discoveryv1.EndpointConditions{
			Ready:       ptr.To(service.Spec.PublishNotReadyAddresses || serving && !terminating),
			Serving:     ptr.To(serving),
			Terminating: ptr.To(terminating),
		},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = ptr.To(pod.Spec.NodeName)
		if zone := zones[pod.Spec.NodeName]; zone != "" {
			e.Zone = ptr.To(zone)
		}
	}
	if util.ShouldSetHostname(pod, service) {
		e.Hostname = ptr.To(pod.Spec.Hostname)
	}
	return e
}

// addresses are a pod's addresses of one family.
func addresses(pod *corev1.Pod, family discoveryv1.AddressType) []string {
	ips := pod.Status.PodIPs
	if len(ips) == 0 {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	var found []string
	for _, ip := range ips {
		addr, err := netip.ParseAddr(ip.IP)
		if err == nil && addr.Unmap().Is4() == (family == discoveryv1.AddressTypeIPv4) {
			found = append(found, addr.Unmap().String())
		}
	}
	return found
}

// podPorts are the ports of a Service as one pod serves them. A named port that
// the pod does not have is left out.
func podPorts(service *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	ports := make([]discoveryv1.EndpointPort, 0, len(service.Spec.Ports))
	for i := range service.Spec.Ports {
		p := &service.Spec.Ports[i]
		number, err := endpointslice.FindPort(pod, p)
		if err != nil {
			continue
		}
		ports = append(ports, discoveryv1.EndpointPort{
			Name:        ptr.To(p.Name),
			Protocol:    ptr.To(cmp.Or(p.Protocol, corev1.ProtocolTCP)),
			Port:        ptr.To(int32(number)),
			AppProtocol: p.AppProtocol,
		})
	}
	return ports
}

// portsKey is equal for equal lists of ports, whatever their order.
func portsKey(ports []discoveryv1.EndpointPort) string {
	keys := make([]string, len(ports))
	for i, p := range ports {
		keys[i] = fmt.Sprintf("%s/%s/%d/%s", ptr.Deref(p.Name, ""), ptr.Deref(p.Protocol, corev1.ProtocolTCP),
			ptr.Deref(p.Port, 0), ptr.Deref(p.AppProtocol, ""))
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}

// addressTypes are the families of addresses a Service has, by its ipFamilies;
// without them, by its clusterIP, and IPv4 for a headless one.
func addressTypes(service *corev1.Service) []discoveryv1.AddressType {
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var families []discoveryv1.AddressType
	for _, f := range service.Spec.IPFamilies {
		families = append(families, discoveryv1.AddressType(f))
	}
	if len(families) > 0 {
		return families
	}
	if strings.Contains(service.Spec.ClusterIP, ":") {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}
