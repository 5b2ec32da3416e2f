package podrange

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/condition"
)

// Ranges says what there is to give.
type Ranges struct {
	Within   netip.Prefix            // of all nodes' pods, IPv4
	Bits     int                     // length of one node's range
	Reserved map[string]netip.Prefix // by node: ranges that are its alone, whether it is there or not
}

// decision is what the nodes without a range get.
type decision struct {
	Give []gift
	None []string // nodes that there is no range left for
}

type gift struct {
	Node  string
	Range netip.Prefix
}

// plan gives every node without a range one that no other has and no pod has an
// address of, the lowest first; the node that was made first chooses first. The pods
// of a Node that was deleted may run on for a while, and traffic be sent to them.
func plan(ranges Ranges, nodes []*corev1.Node, pods []corev1.Pod) decision {
	taken := map[netip.Prefix]bool{}
	for i := range pods {
		if ip, err := netip.ParseAddr(pods[i].Status.PodIP); err == nil && ranges.Within.Contains(ip) && !condition.Ended(pods[i].Status.Phase) {
			taken[netip.PrefixFrom(ip, ranges.Bits).Masked()] = true
		}
	}
	for _, reserved := range ranges.Reserved {
		taken[reserved.Masked()] = true
	}
	var without []*corev1.Node
	for _, node := range nodes {
		if node.Spec.PodCIDR == "" {
			without = append(without, node)
		}
		for _, text := range node.Spec.PodCIDRs {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				taken[prefix.Masked()] = true
			}
		}
	}
	slices.SortFunc(without, func(a, b *corev1.Node) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var d decision
	for _, node := range without {
		if node.DeletionTimestamp != nil {
			continue
		}
		free, ok := ranges.Reserved[node.Name]
		if !ok {
			free, ok = ranges.free(taken)
		}
		if !ok {
			d.None = append(d.None, node.Name)
			continue
		}
		taken[free] = true
		d.Give = append(d.Give, gift{Node: node.Name, Range: free})
	}
	return d
}

// free returns the lowest range that overlaps none that is taken.
func (r Ranges) free(taken map[netip.Prefix]bool) (netip.Prefix, bool) {
	for at := r.Within.Masked().Addr(); r.Within.Contains(at); at = after(netip.PrefixFrom(at, r.Bits)) {
		candidate := netip.PrefixFrom(at, r.Bits)
		overlaps := false
		for other := range taken {
			overlaps = overlaps || other.Overlaps(candidate)
		}
		if !overlaps {
			return candidate, true
		}
	}
	return netip.Prefix{}, false
}

// after returns the first address past an IPv4 range, which is invalid past the
// last of all.
func after(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().As4()
	number := uint64(bytes[0])<<24 | uint64(bytes[1])<<16 | uint64(bytes[2])<<8 | uint64(bytes[3])
	number += 1 << (32 - prefix.Bits())
	if number >= 1<<32 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)})
}
