package columns

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

var (
	serviceDocs = corev1.ServiceSpec{}.SwaggerDoc()

	services = tableOf(serviceCells,
		nameColumn,
		text("Type", serviceDocs["type"]),
		text("Cluster-IP", serviceDocs["clusterIP"]),
		text("External-IP", serviceDocs["externalIPs"]),
		text("Port(s)", serviceDocs["ports"]),
		ageColumn,
		wide(text("Selector", serviceDocs["selector"])))
)

func serviceCells(s *corev1.Service, now time.Time) []any {
	address := s.Spec.ClusterIP
	if len(s.Spec.ClusterIPs) > 0 {
		address = s.Spec.ClusterIPs[0]
	}
	return []any{
		s.Name,
		string(s.Spec.Type),
		or(address, none),
		externalAddresses(s),
		servicePorts(s.Spec.Ports),
		age(&s.ObjectMeta, now),
		labels.FormatLabels(s.Spec.Selector),
	}
}

// externalAddresses is where a Service is reached from outside: its load balancer's
// addresses, sorted, then those that its author gave it.
func externalAddresses(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return or(strings.Join(s.Spec.ExternalIPs, ","), none)
	case corev1.ServiceTypeLoadBalancer:
		var addresses []string
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			if address := or(ingress.IP, ingress.Hostname); address != "" {
				addresses = append(addresses, address)
			}
		}
		slices.Sort(addresses)
		return or(strings.Join(append(slices.Compact(addresses), s.Spec.ExternalIPs...), ","), pending)
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	}
	return unknown
}

func servicePorts(ports []corev1.ServicePort) string {
	var cells []string
	for _, port := range ports {
		cell := fmt.Sprintf("%d/%s", port.Port, port.Protocol)
		if port.NodePort > 0 {
			cell = fmt.Sprintf("%d:%d/%s", port.Port, port.NodePort, port.Protocol)
		}
		cells = append(cells, cell)
	}
	return or(strings.Join(cells, ","), none)
}

var endpoints = tableOf(endpointsCells,
	nameColumn,
	text("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"]),
	ageColumn)

func endpointsCells(e *corev1.Endpoints, now time.Time) []any {
	return []any{e.Name, readyEndpoints(e.Subsets), age(&e.ObjectMeta, now)}
}

// readyEndpoints are the ready addresses with their ports; a headless Service may have none.
func readyEndpoints(subsets []corev1.EndpointSubset) string {
	if len(subsets) == 0 {
		return none
	}
	var cells []string
	for _, subset := range subsets {
		if len(subset.Ports) == 0 {
			for _, address := range subset.Addresses {
				cells = append(cells, address.IP)
			}
		}
		for _, port := range subset.Ports {
			for _, address := range subset.Addresses {
				cells = append(cells, net.JoinHostPort(address.IP, strconv.Itoa(int(port.Port))))
			}
		}
	}
	return firstFew(cells)
}

var (
	endpointSliceDocs = discoveryv1.EndpointSlice{}.SwaggerDoc()

	endpointSlices = tableOf(endpointSliceCells,
		nameColumn,
		text("AddressType", endpointSliceDocs["addressType"]),
		text("Ports", endpointSliceDocs["ports"]),
		text("Endpoints", endpointSliceDocs["endpoints"]),
		ageColumn)
)

func endpointSliceCells(s *discoveryv1.EndpointSlice, now time.Time) []any {
	var ports, addresses []string
	for _, port := range s.Ports {
		ports = append(ports, slicePort(port))
	}
	for _, endpoint := range s.Endpoints {
		addresses = append(addresses, endpoint.Addresses...)
	}
	return []any{
		s.Name,
		string(s.AddressType),
		or(firstFew(ports), unset),
		or(firstFew(addresses), unset),
		age(&s.ObjectMeta, now),
	}
}

// slicePort is a port's number, or for one that stands for all numbers its name or a star.
func slicePort(port discoveryv1.EndpointPort) string {
	switch {
	case port.Port != nil:
		return strconv.Itoa(int(*port.Port))
	case port.Name != nil:
		return *port.Name
	}
	return "*"
}
