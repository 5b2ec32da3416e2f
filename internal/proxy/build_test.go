package proxy

import (
	"bufio"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var testNode = Node{
	Name:         "here",
	PodRange:     netip.MustParsePrefix("10.42.0.0/16"),
	ServiceRange: netip.MustParsePrefix("10.43.0.0/16"),
	Bridge:       "windlass0",
}

// parseState reads objects from lines, for tests:
//
//	service [namespace/]name [ip=A] [type=T] [port=[name:]N[/protocol][:nodePort]]... [lb=A] [external=A]
//	        [affinity=seconds] [internal=Local] [outside=Local] [from=range] [age=seconds] [label=k:v]
//	slice   [namespace/]service/name port=[name:]N[/protocol]... [version=N] [type=IPv6]
//	    address[@node] [unready] [terminating] [serving]
func parseState(t testing.TB, text string) State {
	t.Helper()
	state := State{Node: testNode}
	var slice *discoveryv1.EndpointSlice
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch fields[0] {
		case "service":
			state.Services = append(state.Services, parseService(t, fields[1:]))
		case "slice":
			slice = parseSlice(t, fields[1:])
			state.EndpointSlices = append(state.EndpointSlices, slice)
		case "pod":
			state.Pods = append(state.Pods, parsePod(t, fields[1:]))
		default:
			slice.Endpoints = append(slice.Endpoints, parseEndpoint(t, fields))
		}
	}
	return state
}

func parseService(t testing.TB, fields []string) *corev1.Service {
	namespace, name := splitName(fields[0])
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "ip":
			s.Spec.ClusterIP, s.Spec.ClusterIPs = value, []string{value}
		case "type":
			s.Spec.Type = corev1.ServiceType(value)
		case "port":
			port, rest := parsePort(t, value)
			p := corev1.ServicePort{Name: port.name, Port: port.number, Protocol: port.protocol}
			if rest != "" {
				p.NodePort = parseNumber(t, rest)
			}
			s.Spec.Ports = append(s.Spec.Ports, p)
		case "lb":
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: value})
		case "external":
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, value)
		case "affinity":
			seconds := parseNumber(t, value)
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		case "internal":
			policy := corev1.ServiceInternalTrafficPolicy(value)
			s.Spec.InternalTrafficPolicy = &policy
		case "outside":
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(value)
		case "age":
			s.CreationTimestamp = metav1.NewTime(time.Unix(1_700_000_000-int64(parseNumber(t, value)), 0))
		case "from":
			s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, value)
		case "label":
			k, v, _ := strings.Cut(value, ":")
			s.Labels = map[string]string{k: v}
		default:
			t.Fatalf("unknown field %q of a service", field)
		}
	}
	return s
}

// parsePod reads NAME [ip=ADDRESS] [node=NAME] [phase=PHASE] [host] [age=N] and
// port=HOSTPORT:PORT[/PROTOCOL][@HOSTADDRESS].
func parsePod(t testing.TB, fields []string) *corev1.Pod {
	namespace, name := splitName(fields[0])
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	pod.Spec.NodeName = testNode.Name
	pod.Spec.Containers = make([]corev1.Container, 1)
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "ip":
			pod.Status.PodIP = value
		case "node":
			pod.Spec.NodeName = value
		case "phase":
			pod.Status.Phase = corev1.PodPhase(value)
		case "host":
			pod.Spec.HostNetwork = true
		case "age":
			pod.CreationTimestamp = metav1.NewTime(time.Unix(1_700_000_000-int64(parseNumber(t, value)), 0))
		case "port":
			value, host, _ := strings.Cut(value, "@")
			value, protocol, _ := strings.Cut(value, "/")
			hostPort, port, _ := strings.Cut(value, ":")
			pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports, corev1.ContainerPort{
				HostPort: parseNumber(t, hostPort), ContainerPort: parseNumber(t, port), Protocol: corev1.Protocol(strings.ToUpper(protocol)), HostIP: host,
			})
		default:
			t.Fatalf("unknown field %q of a pod", field)
		}
	}
	return pod
}

func parseSlice(t testing.TB, fields []string) *discoveryv1.EndpointSlice {
	i := strings.LastIndex(fields[0], "/")
	namespace, service := splitName(fields[0][:i])
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fields[0][i+1:], ResourceVersion: "1",
			Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "port":
			port, _ := parsePort(t, value)
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &port.name, Port: &port.number, Protocol: &port.protocol})
		case "version":
			s.ResourceVersion = value
		case "type":
			s.AddressType = discoveryv1.AddressType(value)
		default:
			t.Fatalf("unknown field %q of a slice", field)
		}
	}
	return s
}

func parseEndpoint(t testing.TB, fields []string) discoveryv1.Endpoint {
	address, node, ok := strings.Cut(fields[0], "@")
	if !ok {
		node = testNode.Name
	}
	yes, no := true, false
	e := discoveryv1.Endpoint{Addresses: []string{address}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}
	for _, condition := range fields[1:] {
		switch condition {
		case "unready":
			e.Conditions.Ready = &no
		case "terminating":
			e.Conditions.Terminating = &yes
		case "serving":
			e.Conditions.Serving = &yes
		case "unset":
			e.Conditions = discoveryv1.EndpointConditions{}
		default:
			t.Fatalf("unknown condition %q", condition)
		}
	}
	return e
}

type testPort struct {
	name     string
	number   int32
	protocol corev1.Protocol
}

// parsePort reads [name:]N[/protocol][:rest].
func parsePort(t testing.TB, text string) (testPort, string) {
	port := testPort{protocol: corev1.ProtocolTCP}
	if i := strings.Index(text, ":"); i > 0 && strings.ContainsAny(text[:1], "abcdefghijklmnopqrstuvwxyz") {
		port.name, text = text[:i], text[i+1:]
	}
	text, rest, _ := strings.Cut(text, ":")
	number, protocol, ok := strings.Cut(text, "/")
	if ok {
		port.protocol = corev1.Protocol(strings.ToUpper(protocol))
	}
	port.number = parseNumber(t, number)
	return port, rest
}

func parseNumber(t testing.TB, text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return int32(n)
}

func splitName(text string) (namespace, name string) {
	if namespace, name, ok := strings.Cut(text, "/"); ok {
		return namespace, name
	}
	return "default", text
}

// manyServices returns services of ten endpoints each.
func manyServices(n int) State {
	state := State{Node: testNode}
	for i := range n {
		name := fmt.Sprintf("s%04d", i)
		address := netip.AddrFrom4([4]byte{10, 43, byte(1 + i/250), byte(1 + i%250)}).String()
		state.Services = append(state.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: address,
				Ports: []corev1.ServicePort{{Port: 80, NodePort: 30000 + int32(i)}}},
		})
		state.EndpointSlices = append(state.EndpointSlices, manyEndpoints(name, i, 10))
	}
	return state
}

func manyEndpoints(service string, i, n int) *discoveryv1.EndpointSlice {
	port, node := int32(8080), testNode.Name
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: service + "-x", ResourceVersion: "1",
			Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: &port}},
	}
	for j := range n {
		k := i*10 + j
		address := netip.AddrFrom4([4]byte{10, 42, byte(k / 250), byte(2 + k%250)}).String()
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}, NodeName: &node})
	}
	return slice
}
