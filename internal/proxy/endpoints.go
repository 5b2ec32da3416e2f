package proxy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoints are the addresses that new connections to one port of a Service
// may go to.
type endpoints struct {
	all   []netip.AddrPort // sorted, without doubles
	local []netip.AddrPort // those of all that are on this node
}

// readyEndpoints returns the ready endpoints that the slices list for a port
// of a Service. Terminating ones get no new connections, whatever else is said
// of them: the drain of their pods rests on that.
func readyEndpoints(node string, port corev1.ServicePort, from []*discoveryv1.EndpointSlice) endpoints {
	var found endpoints
	for _, slice := range from {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		number, ok := slicePort(slice, port)
		if !ok {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if !takesConnections(endpoint.Conditions) || len(endpoint.Addresses) == 0 {
				continue
			}
			// All addresses of an endpoint are the same backend: consumers take the first.
			address, err := netip.ParseAddr(endpoint.Addresses[0])
			if err != nil || !address.Is4() {
				continue
			}
			target := netip.AddrPortFrom(address, number)
			found.all = append(found.all, target)
			if endpoint.NodeName != nil && *endpoint.NodeName == node {
				found.local = append(found.local, target)
			}
		}
	}
	found.all = sortedUnique(found.all)
	found.local = sortedUnique(found.local)
	return found
}

// slicePort returns the number under which a slice serves a Service's port:
// the one with the port's name and protocol.
func slicePort(slice *discoveryv1.EndpointSlice, port corev1.ServicePort) (uint16, bool) {
	for _, p := range slice.Ports {
		name, protocol := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if name != port.Name || protocol != protocolOrTCP(port.Protocol) {
			continue
		}
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			return 0, false
		}
		return uint16(*p.Port), true
	}
	return 0, false
}

// takesConnections says whether an endpoint may get new connections. A
// condition that is not set means ready and not terminating, as the API says.
func takesConnections(c discoveryv1.EndpointConditions) bool {
	ready := c.Ready == nil || *c.Ready
	return ready && !terminating(c)
}

func terminating(c discoveryv1.EndpointConditions) bool {
	return c.Terminating != nil && *c.Terminating
}

// hasTerminating says whether a slice lists an endpoint that is going away:
// somebody waits for the proxies to leave it.
func hasTerminating(slice *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool { return terminating(e.Conditions) })
}

func sortedUnique(targets []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(targets, netip.AddrPort.Compare)
	return slices.Compact(targets)
}

func protocolOrTCP(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}
