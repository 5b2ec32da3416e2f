package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The service range has two routes. Packets of this node's own processes take
// the first, so that they come to the proxy's rules; should the bridge go, the
// second refuses them rather than the default route sending them away.
const (
	metricBridge      = 1
	metricUnreachable = 1 << 24
)

// ensureRefusal refuses what goes to a pod of no node, rather than the default
// route sending it away: the ranges of nodes have routes that are narrower.
func ensureRefusal(pods netip.Prefix) error {
	if !pods.IsValid() {
		return nil
	}
	return netlink.RouteReplace(&netlink.Route{Dst: ipNet(pods), Type: unix.RTN_UNREACHABLE, Priority: metricUnreachable})
}

// ipNet returns an IPv4 network as netlink wants it.
func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Masked().Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}
}

func ensureRoutes(bridge netlink.Link, services netip.Prefix) error {
	dst := ipNet(services)
	unreachable := &netlink.Route{Dst: dst, Type: unix.RTN_UNREACHABLE, Priority: metricUnreachable}
	if err := netlink.RouteReplace(unreachable); err != nil {
		return fmt.Errorf("unreachable: %w", err)
	}
	toBridge := &netlink.Route{Dst: dst, LinkIndex: bridge.Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: metricBridge}
	if err := netlink.RouteReplace(toBridge); err != nil {
		return fmt.Errorf("to the bridge: %w", err)
	}
	return nil
}
