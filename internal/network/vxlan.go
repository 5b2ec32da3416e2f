package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/overlay"
)

const (
	// OverlayLink is the name of the device to other nodes.
	OverlayLink = "windlass-vxlan"

	// vxlanPort is the UDP port at which nodes take each other's packets: that of
	// Linux, which other networks of this sort use too.
	vxlanPort = 8472

	// vxlanID tells these packets from those of other such networks.
	vxlanID = 0x571

	// vxlanOverhead is what the wrapping takes of a packet, in bytes: IPv4, UDP,
	// VXLAN and the inner Ethernet header.
	vxlanOverhead = 20 + 8 + 8 + 14
)

var _ overlay.Links = (*Network)(nil)

// SetPeers implements overlay.Links. Packets from and to pods keep their
// addresses. It mends what others have changed.
func (n *Network) SetPeers(peers []overlay.Peer) error {
	if len(peers) == 0 {
		if _, err := netlink.LinkByName(OverlayLink); err != nil {
			return nil // and needs none
		}
	}
	link, err := n.ensureVXLAN()
	if err != nil {
		return fmt.Errorf("set up %s: %w", OverlayLink, err)
	}
	want := map[netip.Prefix]overlay.Peer{}
	var failed []error
	for _, peer := range peers {
		if peer.PodRange.Overlaps(n.cfg.PodRange) {
			failed = append(failed, fmt.Errorf("node %s has the pod range %s, which is this node's (%s)", peer.Node, peer.PodRange, n.cfg.PodRange))
			continue
		}
		want[peer.PodRange] = peer
	}
	failed = append(failed, n.forgetPeers(link, want))
	for _, peer := range want {
		if err := addPeer(link, peer); err != nil {
			failed = append(failed, fmt.Errorf("node %s: %w", peer.Node, err))
		}
	}
	return errors.Join(failed...)
}

// ensureVXLAN returns the device, up, with its address: the network's own, which
// is the source of what this node sends to other nodes' pods for others.
func (n *Network) ensureVXLAN() (netlink.Link, error) {
	under, err := n.underlay()
	if err != nil {
		return nil, err
	}
	if under == nil {
		return nil, fmt.Errorf("this node's address %s is not one that other nodes can reach: give one of a network interface with --node-ip", n.cfg.Underlay)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = OverlayLink
	attrs.MTU = n.podMTU()
	attrs.HardwareAddr = vxlanHardware(n.cfg.PodRange)
	wanted := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: vxlanID, Port: vxlanPort, Learning: false,
		SrcAddr: n.cfg.Underlay.AsSlice(), VtepDevIndex: under.Attrs().Index,
	}
	link, err := netlink.LinkByName(OverlayLink)
	if err == nil && !sameVXLAN(link, wanted) {
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return nil, fmt.Errorf("replace it: %w", err)
		}
		err = netlink.LinkNotFoundError{}
	}
	if err != nil {
		if err := netlink.LinkAdd(wanted); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("add it: %w", err)
		}
		if link, err = netlink.LinkByName(OverlayLink); err != nil {
			return nil, err
		}
	}
	own := &netlink.Addr{IPNet: &net.IPNet{IP: n.cfg.PodRange.Masked().Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrReplace(link, own); err != nil {
		return nil, fmt.Errorf("give it the address %s: %w", own.IP, err)
	}
	// Loose: what a pod sends by a Service may be answered by another way.
	if err := setSysctls([]sysctl{{"ipv4/conf/" + OverlayLink + "/rp_filter", "2", false}}); err != nil {
		return nil, err
	}
	return link, netlink.LinkSetUp(link)
}

func sameVXLAN(link netlink.Link, wanted *netlink.Vxlan) bool {
	has, ok := link.(*netlink.Vxlan)
	return ok && has.VxlanId == wanted.VxlanId && has.Port == wanted.Port && has.SrcAddr.Equal(wanted.SrcAddr) &&
		has.VtepDevIndex == wanted.VtepDevIndex && has.MTU == wanted.MTU && bytes.Equal(has.HardwareAddr, wanted.HardwareAddr)
}

// vxlanHardware is the hardware address of the device of the node with a pod
// range: every node knows it of every other.
func vxlanHardware(podRange netip.Prefix) net.HardwareAddr {
	return append(net.HardwareAddr{0x0e, 0x57}, podRange.Masked().Addr().AsSlice()...)
}

// addPeer makes the way to a node's pods, or mends it. What the route needs comes
// before it.
func addPeer(link netlink.Link, peer overlay.Peer) error {
	index := link.Attrs().Index
	hardware, via := vxlanHardware(peer.PodRange), net.IP(peer.PodRange.Masked().Addr().AsSlice())
	steps := []struct {
		what string
		do   func() error
	}{
		{"forwarding entry", func() error {
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
				State: netlink.NUD_PERMANENT, IP: peer.Address.AsSlice(), HardwareAddr: hardware})
		}},
		{"neighbour", func() error {
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: via, HardwareAddr: hardware})
		}},
		{"route", func() error {
			return netlink.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(peer.PodRange), Gw: via, Flags: int(netlink.FLAG_ONLINK)})
		}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// forgetPeers removes the way to every node that is not wanted, and entries that
// lead to where a wanted one is no more.
func (n *Network) forgetPeers(link netlink.Link, want map[netip.Prefix]overlay.Peer) error {
	index := link.Attrs().Index
	hardware := map[string]netip.Addr{}
	for _, peer := range want {
		hardware[vxlanHardware(peer.PodRange).String()] = peer.Address
	}
	var failed []error
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: index}, netlink.RT_FILTER_OIF)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		if prefix, ok := prefixOf(route.Dst); ok && want[prefix].PodRange.IsValid() {
			continue
		}
		failed = append(failed, netlink.RouteDel(&route))
	}
	for _, family := range []int{unix.AF_INET, unix.AF_BRIDGE} {
		entries, err := netlink.NeighList(index, family)
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		for _, entry := range entries {
			at, known := hardware[entry.HardwareAddr.String()]
			if entry.State&netlink.NUD_PERMANENT == 0 || known && (family == unix.AF_INET || entry.IP.Equal(net.IP(at.AsSlice()))) {
				continue
			}
			if family == unix.AF_BRIDGE {
				entry.Flags = netlink.NTF_SELF
			}
			entry.Family = family
			if err := netlink.NeighDel(&entry); err != nil && !errors.Is(err, unix.ENOENT) {
				failed = append(failed, fmt.Errorf("remove neighbour %s: %w", entry.HardwareAddr, err))
			}
		}
	}
	return errors.Join(failed...)
}

func prefixOf(dst *net.IPNet) (netip.Prefix, bool) {
	if dst == nil {
		return netip.Prefix{}, false
	}
	address, ok := netip.AddrFromSlice(dst.IP.To4())
	bits, _ := dst.Mask.Size()
	return netip.PrefixFrom(address, bits), ok
}

// podMTU is the MTU of pods: what is left of the link's to other nodes. A node
// that has none leaves no room for wrapping.
func (n *Network) podMTU() int {
	if under, err := n.underlay(); err == nil && under != nil {
		return under.Attrs().MTU - vxlanOverhead
	}
	return ethernetMTU
}

// ethernetMTU is what pods have where there is no link to other machines.
const ethernetMTU = 1500

// underlay returns the interface by which other nodes reach this one, nil when
// there is none.
func (n *Network) underlay() (netlink.Link, error) {
	if !n.cfg.Underlay.IsValid() {
		return nil, nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	for _, link := range links {
		if link.Attrs().Flags&net.FlagLoopback != 0 || link.Attrs().Name == n.cfg.Bridge {
			continue
		}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, has := range addresses {
			if has.IP.Equal(net.IP(n.cfg.Underlay.AsSlice())) {
				return link, nil
			}
		}
	}
	return nil, nil
}
