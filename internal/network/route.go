package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"

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

// ensureSysctls sets what routing between pods and Services needs. A setting
// that cannot be made is an error only where pods would not work without it.
func ensureSysctls(bridge string, log *slog.Logger) error {
	settings := []struct {
		name, value string
		needed      bool
	}{
		{"ip_forward", "1", true},
		// A node port on 127.0.0.1 leaves loopback with that source address, translated.
		{"conf/" + bridge + "/route_localnet", "1", true},
		{"conf/" + bridge + "/rp_filter", "0", false},
		// Packets between pods go in and out by the same bridge, on purpose.
		{"conf/" + bridge + "/send_redirects", "0", false},
		{"conf/all/send_redirects", "0", false},
	}
	for _, s := range settings {
		path := filepath.Join("/proc/sys/net/ipv4", s.name)
		current, err := os.ReadFile(path)
		if err == nil && string(current) == s.value+"\n" {
			continue
		}
		err = os.WriteFile(path, []byte(s.value), 0)
		switch {
		case err == nil:
		case s.needed && !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("set net/ipv4/%s to %s: %w", s.name, s.value, err)
		default:
			log.Warn("kernel setting not made", "setting", "net/ipv4/"+s.name, "value", s.value, "error", err)
		}
	}
	return nil
}
