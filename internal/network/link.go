package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// podInterface is the name of the interface inside a pod.
const podInterface = "eth0"

// linkName names the node's end of a pod's veth pair; 15 characters are the
// kernel's limit.
func linkName(podUID string) string {
	sum := sha256.Sum256([]byte(podUID))
	return "wl" + hex.EncodeToString(sum[:6])
}

// ensureBridge returns the bridge, made and up, with its address.
func ensureBridge(name string, ip netip.Addr, bits int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("add: %w", err)
	}
	bridge, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if bridge.Type() != "bridge" {
		return nil, fmt.Errorf("an interface of this name is there and is a %s: remove or rename it", bridge.Type())
	}
	if len(bridge.Attrs().HardwareAddr) == 6 && bridge.Attrs().HardwareAddr[0] != bridgePrefix {
		// An address of its own, else it changes with the ports that come and go.
		sum := sha256.Sum256([]byte(ip.String()))
		if err := netlink.LinkSetHardwareAddr(bridge, append(net.HardwareAddr{bridgePrefix}, sum[:5]...)); err != nil {
			return nil, fmt.Errorf("set its hardware address: %w", err)
		}
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
	if err := netlink.AddrReplace(bridge, address); err != nil {
		return nil, fmt.Errorf("give it the address %s: %w", ip, err)
	}
	return bridge, netlink.LinkSetUp(bridge)
}

// bridgePrefix begins the hardware address of the bridge: locally administered.
const bridgePrefix = 0x0a

// connect joins the pod's namespace to the bridge with a veth pair and gives
// its end the pod's address and routes. It mends what is half done.
func connect(pod agent.PodNetwork, name, bridgeName string, gateway netip.Addr) error {
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	ns, err := netns.GetFromPath(pod.NetNS)
	if err != nil {
		return fmt.Errorf("open %s: %w", pod.NetNS, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in the pod's namespace: %w", err)
	}
	defer inside.Close()

	eth, err := inside.LinkByName(podInterface)
	if err != nil {
		if eth, err = addVeth(inside, ns, name, bridge); err != nil {
			return err
		}
	}
	if err := setUpInside(inside, eth, pod.IP, gateway); err != nil {
		return err
	}
	outside, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if outside.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := netlink.LinkSetMaster(outside, bridge); err != nil {
			return fmt.Errorf("attach to the bridge: %w", err)
		}
	}
	return netlink.LinkSetUp(outside)
}

// addVeth makes the pair and returns the pod's end.
func addVeth(inside *netlink.Handle, ns netns.NsHandle, name string, bridge netlink.Link) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MasterIndex = bridge.Attrs().Index
	attrs.MTU = bridge.Attrs().MTU
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podInterface, PeerNamespace: netlink.NsFd(int(ns)), PeerMTU: uint32(attrs.MTU)}
	err := netlink.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) { // left by a namespace that is gone
		if err = removeLink(name); err == nil {
			err = netlink.LinkAdd(veth)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("add the veth pair: %w", err)
	}
	return inside.LinkByName(podInterface)
}

func setUpInside(inside *netlink.Handle, eth netlink.Link, ip, gateway netip.Addr) error {
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	host := net.CIDRMask(32, 32)
	steps := []struct {
		what string
		do   func() error
	}{
		{"set loopback up", func() error { return inside.LinkSetUp(lo) }},
		{"add the address", func() error {
			return inside.AddrReplace(eth, &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: host}})
		}},
		{"set the interface up", func() error { return inside.LinkSetUp(eth) }},
		{"route to the gateway", func() error {
			return inside.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: gateway.AsSlice(), Mask: host}})
		}},
		{"set the default route", func() error {
			return inside.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.AsSlice()})
		}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// removeLink removes an interface; one that is not there is no error.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}
