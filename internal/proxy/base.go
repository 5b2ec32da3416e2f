package proxy

import (
	"net/netip"
	"slices"
	"time"
)

// The names of what is always in the table.
const (
	setServices  = "services"  // address, protocol, port: where cluster, external and load balancer addresses go
	setNodePorts = "nodeports" // protocol, port: where ports on any address of this machine go
	setHairpins  = "hairpins"  // pairs of the same address: endpoints that may reach themselves

	setConnections = "connections" // by path: connections that began
	setRefused     = "refused"     // by path: those that were refused
	setReset       = "resets"      // by path: those that the server's side reset
	setEnded       = "ended"       // connections whose end was counted: what ends one may come more than once

	chainDispatch    = "dispatch"
	chainUnserved    = "unserved"
	chainRefuse      = "refuse"
	chainDiscard     = "discard"
	chainLost        = "lost"
	chainLostReset   = "lost/reset"
	chainUnreachable = "lost/unreachable"
)

// sharedSets are the sets that Services put elements into.
var sharedSets = []Set{
	{Name: setServices, Key: []Type{TypeAddress, TypeProtocol, TypePort}, Verdict: true},
	{Name: setNodePorts, Key: []Type{TypeProtocol, TypePort}, Verdict: true},
	{Name: setHairpins, Key: []Type{TypeAddress, TypeAddress}},
}

// pathSets are those that rules count in.
var pathSets = []Set{
	{Name: setConnections, Key: pathTypes, Dynamic: true},
	{Name: setRefused, Key: pathTypes, Dynamic: true},
	{Name: setReset, Key: pathTypes, Dynamic: true},
}

var endedSet = Set{Name: setEnded, Key: pathTypes, Dynamic: true, Timeout: 5 * time.Second}

// pathTypes is the key of a path: the address of the Service, that of the
// endpoint, and the port of each. That of a connection has the same types.
var pathTypes = []Type{TypeAddress, TypeAddress, TypePort, TypePort}

// dynamicSetSize bounds what a set that packets fill takes: the clients that the
// session affinity of one endpoint remembers, the paths that are counted. What
// goes beyond is not remembered or counted, and gets through all the same.
const dynamicSetSize = 65536

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// Node is what the proxy must know of the machine that it works on.
type Node struct {
	Name         string
	PodRange     netip.Prefix // of all nodes' pods
	ServiceRange netip.Prefix // of cluster IPs
	Bridge       string       // name of the interface that this node's pods are behind
}

// basePart returns the part of the ruleset that does not depend on Services.
// The package comment has the diagram.
func basePart(node Node) *Part {
	notLoopback := interfaceIs{not: true, name: "lo"}
	fromPods := interfaceIs{name: node.Bridge}
	toServices := addressIn{prefix: node.ServiceRange}
	nothingUnplaced := Rule{fromPods, invalid{}, drop{}}
	nothingUnserved := Rule{toServices, goTo{chainRefuse}}
	begins := Rule{tcpFlags{of: "fin | syn | rst | ack", are: "syn"}, translated{}, countPath{setConnections}}
	isReset := Rule{tcpFlags{of: "rst", are: "rst"}, answers{}, translated{}, jumpTo{chainLost}}
	isUnreachable := Rule{unreachable{}, answers{}, translated{}, jumpTo{chainUnreachable}}
	return &Part{
		Sets: slices.Concat(sharedSets, pathSets, []Set{endedSet}),
		Chains: []Chain{
			{Name: "guard", Hook: &Hook{"filter", "prerouting", -300}, Rules: []Rule{
				{notLoopback, addressIn{prefix: loopback}, drop{}},
				{notLoopback, addressIn{source: true, prefix: loopback}, drop{}},
			}},
			{Name: "prerouting", Hook: &Hook{"nat", "prerouting", -100}, Rules: []Rule{{jumpTo{chainDispatch}}}},
			{Name: "output", Hook: &Hook{"nat", "output", -100}, Rules: []Rule{{jumpTo{chainDispatch}}}},
			{Name: chainDispatch, Rules: []Rule{
				{dispatchAddress{setServices}},
				{addressLocal{}, dispatchPort{setNodePorts}},
			}},
			{Name: "filter-input", Hook: &Hook{"filter", "input", 0}, Rules: []Rule{
				nothingUnplaced, nothingUnserved,
				append(Rule{notLoopback}, isReset...), // the machine's own were seen in filter-output
				append(Rule{notLoopback}, isUnreachable...),
			}},
			{Name: "filter-forward", Hook: &Hook{"filter", "forward", 0}, Rules: []Rule{nothingUnplaced, nothingUnserved, isReset, isUnreachable}},
			{Name: "filter-output", Hook: &Hook{"filter", "output", 0}, Rules: []Rule{nothingUnserved, isReset, isUnreachable}},
			{Name: "input", Hook: &Hook{"nat", "input", 100}, Rules: []Rule{begins}},
			{Name: "postrouting", Hook: &Hook{"nat", "postrouting", 100}, Rules: []Rule{
				begins,
				{interfaceIs{out: true, name: "lo"}, accept{}},
				{addressIn{source: true, prefix: loopback}, masquerade{}},
				{translated{}, pairIn{setHairpins}, masquerade{}},
				{addressIn{source: true, prefix: node.PodRange}, addressIn{not: true, prefix: node.PodRange}, masquerade{}},
				{translated{}, addressIn{source: true, not: true, prefix: node.PodRange}, interfaceIs{out: true, not: true, name: node.Bridge}, masquerade{}},
			}},
			{Name: chainUnserved, Rules: []Rule{
				{countPath{setRefused}},
				{goTo{chainRefuse}},
			}},
			{Name: chainRefuse, Rules: []Rule{
				{protocolIs{TCP}, refuse{reset: true}},
				{refuse{}},
			}},
			{Name: chainDiscard, Rules: []Rule{{drop{}}}},
			{Name: chainLost, Rules: []Rule{
				{assured{}, goTo{chainLostReset}},
				{tcpFlags{of: "rst | ack", are: "rst"}, goTo{chainLostReset}}, // the answer to what is not the first packet
				{countPath{setRefused}},
			}},
			{Name: chainLostReset, Rules: []Rule{{endsFirst{setEnded}, countPath{setReset}}}},
			{Name: chainUnreachable, Rules: []Rule{{assured{not: true}, endsFirst{setEnded}, countPath{setRefused}}}},
		},
	}
}
