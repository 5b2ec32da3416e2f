package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/overlay"
)

// ways is what the kernel has of the ways to other nodes, as text.
func ways(t *testing.T) string {
	t.Helper()
	link, err := netlink.LinkByName(OverlayLink)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range routes {
		lines = append(lines, fmt.Sprintf("%s via %s", route.Dst, route.Gw))
	}
	for _, family := range []int{unix.AF_INET, unix.AF_BRIDGE} {
		entries, err := netlink.NeighList(link.Attrs().Index, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if entry.State&netlink.NUD_PERMANENT != 0 {
				lines = append(lines, fmt.Sprintf("%s at %s", entry.HardwareAddr, entry.IP))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestSetPeers: the kernel has the ways to these nodes and to no others, whatever
// it had before.
func TestSetPeers(t *testing.T) {
	if noNamespace != nil {
		t.Skip(noNamespace)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "uplink", 1400
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "elsewhere"}); err != nil {
		t.Fatal(err)
	}
	uplink, err := netlink.LinkByName("uplink")
	if err != nil {
		t.Fatal(err)
	}
	address, err := netlink.ParseAddr("192.0.2.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(uplink, address); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(uplink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		removeLink(OverlayLink)
		netlink.LinkDel(uplink)
		removeLink("windlass1")
	})
	n, err := New(Config{DataDir: t.TempDir(), Bridge: "windlass1", PodRange: netip.MustParsePrefix("10.42.7.0/24"), AllPods: netip.MustParsePrefix("10.42.0.0/16"),
		Underlay: netip.MustParseAddr("192.0.2.1"), ServiceRange: netip.MustParsePrefix("10.43.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.EnsureHost(t.Context()); err != nil {
		t.Fatal(err)
	}
	peer := func(name, address, podRange string) overlay.Peer {
		return overlay.Peer{Node: name, Address: netip.MustParseAddr(address), PodRange: netip.MustParsePrefix(podRange)}
	}
	if err := n.SetPeers(nil); err != nil {
		t.Error(err)
	}
	if _, err := netlink.LinkByName(OverlayLink); err == nil {
		t.Error("a node alone has an overlay")
	}
	if link, err := netlink.LinkByName("windlass1"); err != nil || link.Attrs().MTU != 1350 {
		t.Errorf("the bridge is %v, %v, want the uplink's MTU less 50", link, err)
	}

	two := "0e:57:0a:2a:01:00 at 10.42.1.0\n0e:57:0a:2a:01:00 at 192.0.2.2\n0e:57:0a:2a:02:00 at 10.42.2.0\n0e:57:0a:2a:02:00 at 192.0.2.3\n" +
		"10.42.1.0/24 via 10.42.1.0\n10.42.2.0/24 via 10.42.2.0"
	for _, test := range []struct {
		name  string
		peers []overlay.Peer
		want  string
	}{
		{"two", []overlay.Peer{peer("a", "192.0.2.2", "10.42.1.0/24"), peer("b", "192.0.2.3", "10.42.2.0/24")}, two},
		{"again", []overlay.Peer{peer("a", "192.0.2.2", "10.42.1.0/24"), peer("b", "192.0.2.3", "10.42.2.0/24")}, two},
		{"one has moved", []overlay.Peer{peer("a", "192.0.2.9", "10.42.1.0/24"), peer("b", "192.0.2.3", "10.42.2.0/24")}, strings.Replace(two, "192.0.2.2", "192.0.2.9", 1)},
		{"one is gone", []overlay.Peer{peer("b", "192.0.2.3", "10.42.2.0/24")}, "0e:57:0a:2a:02:00 at 10.42.2.0\n0e:57:0a:2a:02:00 at 192.0.2.3\n10.42.2.0/24 via 10.42.2.0"},
		{"all are gone", nil, ""},
	} {
		if err := n.SetPeers(test.peers); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := ways(t); got != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", test.name, got, test.want)
		}
	}
	// A peer with this node's range is told of, and harms no other.
	if err := n.SetPeers([]overlay.Peer{peer("a", "192.0.2.2", "10.42.7.0/24"), peer("b", "192.0.2.3", "10.42.2.0/24")}); err == nil || !strings.Contains(err.Error(), "which is this node's") {
		t.Errorf("a peer with this node's range: %v", err)
	}
	if got := ways(t); !strings.Contains(got, "10.42.2.0/24 via") || strings.Contains(got, "10.42.7.0/24 via") {
		t.Errorf("beside a peer with this node's range:\n%s", got)
	}
	if err := n.SetPeers(nil); err != nil {
		t.Error(err)
	}
	// What goes to a pod of no node is refused here.
	for destination, refused := range map[string]bool{"10.42.99.1": true, "10.42.2.1": true, "10.42.7.9": false} {
		_, err := netlink.RouteGet(netip.MustParseAddr(destination).AsSlice())
		if (err != nil) != refused {
			t.Errorf("the way to %s: %v, refused should be %v", destination, err, refused)
		}
	}
}
