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

func ensureRoutes(bridge netlink.Link, services netip.Prefix) error {
	dst := &net.IPNet{IP: services.Addr().AsSlice(), Mask: net.CIDRMask(services.Bits(), 32)}
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
