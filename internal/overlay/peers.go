package overlay

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Peer is another node as the network knows it.
type Peer struct {
	Node     string
	Address  netip.Addr   // of the node
	PodRange netip.Prefix // of its pods
}

// Peers returns the other nodes that have an IPv4 address and a pod range, in the
// order of their names. Of two with the same range, which nobody should make, the
// first has it.
func Peers(self string, nodes []*corev1.Node) []Peer {
	var peers []Peer
	for _, node := range nodes {
		address, ok := addressOf(node)
		within, err := netip.ParsePrefix(node.Spec.PodCIDR)
		if node.Name == self || !ok || err != nil || !within.Addr().Is4() {
			continue
		}
		peers = append(peers, Peer{Node: node.Name, Address: address, PodRange: within.Masked()})
	}
	slices.SortFunc(peers, func(a, b Peer) int { return strings.Compare(a.Node, b.Node) })
	taken := map[netip.Prefix]bool{}
	return slices.DeleteFunc(peers, func(p Peer) bool {
		double := taken[p.PodRange]
		taken[p.PodRange] = true
		return double
	})
}

func addressOf(node *corev1.Node) (netip.Addr, bool) {
	for _, address := range node.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		if parsed, err := netip.ParseAddr(address.Address); err == nil && parsed.Unmap().Is4() {
			return parsed.Unmap(), true
		}
	}
	return netip.Addr{}, false
}
