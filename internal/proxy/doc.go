// Package proxy makes Services work on a node: it compiles Services and
// EndpointSlices into nftables rules and keeps the kernel's equal to them.
package proxy
