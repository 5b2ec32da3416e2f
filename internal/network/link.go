package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

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
func ensureBridge(name string, ip netip.Addr, bits, mtu int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MTU = mtu
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
	if bridge.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(bridge, mtu); err != nil {
			return nil, fmt.Errorf("set its MTU to %d: %w", mtu, err)
		}
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
	if err := netlink.AddrReplace(bridge, address); err != nil {
		return nil, fmt.Errorf("give it the address %s: %w", ip, err)
	}
	if err := removeOtherAddresses(bridge, address); err != nil {
		return nil, err
	}
	return bridge, netlink.LinkSetUp(bridge)
}

// removeOtherAddresses takes away those that the bridge had when the node had
// another pod range, which may be another node's now.
func removeOtherAddresses(bridge netlink.Link, keep *netlink.Addr) error {
	addresses, err := netlink.AddrList(bridge, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
	for _, address := range addresses {
		if address.Equal(*keep) {
			continue
		}
		if err := netlink.AddrDel(bridge, &address); err != nil {
			return fmt.Errorf("remove its address %s: %w", address.IPNet, err)
		}
	}
	return nil
}

// loopbackUp sets lo up, which in a new network namespace nobody else does.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil || lo.Attrs().Flags&net.FlagUp != 0 {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// bridgePrefix begins the hardware address of the bridge: locally administered.
const bridgePrefix = 0x0a

// hardwareAddr is that of a pod's interface: derived from its IP address, so that
// the pod that has the address next is not sought at the old one.
func hardwareAddr(ip netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x0e, 0x58}, ip.AsSlice()...)
}

// connect joins the pod's namespace to the bridge with a veth pair and gives
// its end the pod's address and routes. It mends what is half done. When it
// returns packets pass.
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

	eth, outside, err := findVeth(inside, name)
	if err != nil {
		return err
	}
	if eth == nil {
		if err := addVeth(pod.IP, ns, name, bridge); err != nil {
			return err
		}
		if eth, outside, err = findVeth(inside, name); err != nil {
			return err
		}
		if eth == nil {
			return errors.New("the veth pair is gone as soon as it is made")
		}
	}
	if outside.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := netlink.LinkSetMaster(outside, bridge); err != nil {
			return fmt.Errorf("attach to the bridge: %w", err)
		}
	}
	// Where br_netfilter is on, the bridge itself sends back what a pod sends
	// to itself through a Service.
	if err := netlink.LinkSetHairpin(outside, true); err != nil {
		return fmt.Errorf("set hairpin mode of %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(outside); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	if err := setUpInside(inside, eth, pod.IP, gateway); err != nil {
		return err
	}
	return waitOperational(inside, name, bridgeName)
}

// findVeth returns the two ends of the pod's pair, or nil and nil when it is not
// whole: an end without the other, as a node's namespace that the server has left
// keeps it, is removed.
func findVeth(inside *netlink.Handle, name string) (eth, outside netlink.Link, err error) {
	var notFound netlink.LinkNotFoundError
	if eth, err = inside.LinkByName(podInterface); err != nil && !errors.As(err, &notFound) {
		return nil, nil, err
	}
	if outside, err = netlink.LinkByName(name); err != nil && !errors.As(err, &notFound) {
		return nil, nil, err
	}
	if eth != nil && outside != nil && eth.Attrs().ParentIndex == outside.Attrs().Index && outside.Attrs().ParentIndex == eth.Attrs().Index {
		return eth, outside, nil
	}
	if eth != nil {
		if err := inside.LinkDel(eth); err != nil && !errors.Is(err, unix.ENODEV) {
			return nil, nil, fmt.Errorf("remove half a veth pair: %w", err)
		}
	}
	return nil, nil, removeLink(name)
}

// addVeth makes the pair.
func addVeth(ip netip.Addr, ns netns.NsHandle, name string, bridge netlink.Link) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MasterIndex = bridge.Attrs().Index
	attrs.MTU = bridge.Attrs().MTU
	attrs.Flags = net.FlagUp
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: podInterface, PeerNamespace: netlink.NsFd(int(ns)),
		PeerMTU: uint32(attrs.MTU), PeerHardwareAddr: hardwareAddr(ip),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add the veth pair: %w", err)
	}
	return nil
}

// waitOperational waits until the kernel, which does that in the background, has
// put the links to work: a packet that comes before is dropped, and its sender
// tries again a second later.
func waitOperational(inside *netlink.Handle, outside, bridge string) error {
	limit := time.Now().Add(2 * time.Second)
	for {
		var waiting []string
		for _, link := range []struct {
			name string
			find func(string) (netlink.Link, error)
		}{{podInterface, inside.LinkByName}, {outside, netlink.LinkByName}, {bridge, netlink.LinkByName}} {
			found, err := link.find(link.name)
			if err != nil {
				return err
			}
			if found.Attrs().OperState != netlink.OperUp {
				waiting = append(waiting, link.name)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%s not operational after two seconds", strings.Join(waiting, ", "))
		}
		time.Sleep(200 * time.Microsecond)
	}
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
