package server

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"windlass.dev/windlass/internal/network"
)

// nodeAddress finds the address by which this node is known: of the interface
// with the default route, else the first global one, else fallback, for a host
// that has nothing but loopback. Windlass's own interfaces do not count.
func nodeAddress(fallback netip.Addr) (netip.Addr, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list network interfaces: %w", err)
	}
	preferred, err := defaultRouteLink()
	if err != nil {
		return netip.Addr{}, err
	}
	var first netip.Addr
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Flags&net.FlagUp == 0 || attrs.Flags&net.FlagLoopback != 0 || attrs.Name == bridge || attrs.Name == network.OverlayLink || link.Type() == "veth" && attrs.MasterIndex != 0 {
			continue
		}
		addr, ok := globalIPv4(link)
		if !ok {
			continue
		}
		if attrs.Index == preferred {
			return addr, nil
		}
		if !first.IsValid() {
			first = addr
		}
	}
	if first.IsValid() {
		return first, nil
	}
	return fallback, nil
}

// defaultRouteLink returns the index of the interface with the IPv4 default
// route, 0 when there is none.
func defaultRouteLink() (int, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil || route.Dst.IP.IsUnspecified() {
			return route.LinkIndex, nil
		}
	}
	return 0, nil
}

func globalIPv4(link netlink.Link) (netip.Addr, bool) {
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, address := range addresses {
		if addr, ok := netip.AddrFromSlice(address.IP.To4()); ok && addr.IsGlobalUnicast() {
			return addr, true
		}
	}
	return netip.Addr{}, false
}
