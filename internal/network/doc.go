// Package network gives each pod a network namespace with an address: the
// adapter behind agent.Network, on netlink.
//
//	node's namespace                          pod's namespace
//	bridge windlass0 10.42.0.1/24 ── wl<id> ══ eth0 10.42.0.7/32
//
// A pod's address is a /32 with its route through the bridge's own address, so
// that packets between two pods are routed by the node, not switched past it:
// what was sent to a Service's address comes back through the translation.
//
// Looking at a pod's sockets (sockets.go) costs some microseconds, so that it can
// be done every few milliseconds: each pod has a socket table of its own, and one
// request asks for all of it.
//
// Packets to other nodes' pods go through a VXLAN device (vxlan.go), which the
// kernel is told all of: a route, the peer's hardware address, and the peer's
// address. Nothing is learned or asked for on the wire.
//
// What is known of a pod is on disk: the file <data>/network/pods/<uid> holds
// its address, <data>/run/netns/<uid> is its namespace, bind-mounted. After a
// reboot, or in another mount namespace, Setup finds or makes what is missing
// and keeps the address.
//
// No packet for the service range can leave the node, nor one for a pod that no
// node has: unreachable routes cover the ranges. The former is under a route to the bridge that brings local packets to the
// proxy's rules.
package network
