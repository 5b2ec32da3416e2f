// Package overlay connects the pods of all nodes: it tells this node's network
// where the other nodes are, and which addresses their pods have.
//
//	Nodes ── Peers ──► Links (VXLAN device, routes)
//	         pure       the whole, each time
//
// A node that is down keeps its place: only one that is deleted loses it.
package overlay
