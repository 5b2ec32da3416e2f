package proxy

import "net/netip"

// The names of what is always in the table.
const (
	setServices  = "services"  // address, protocol, port: where cluster, external and load balancer addresses go
	setNodePorts = "nodeports" // protocol, port: where ports on any address of this machine go
	setHairpins  = "hairpins"  // pairs of the same address: endpoints that may reach themselves

	chainDispatch = "dispatch"
	chainRefuse   = "refuse"
	chainDiscard  = "discard"
)

// sharedSets are the sets that Services put elements into.
var sharedSets = []Set{
	{Name: setServices, Key: []Type{TypeAddress, TypeProtocol, TypePort}, Verdict: true},
	{Name: setNodePorts, Key: []Type{TypeProtocol, TypePort}, Verdict: true},
	{Name: setHairpins, Key: []Type{TypeAddress, TypeAddress}},
}

// affinitySetSize bounds how many clients the session affinity of one endpoint remembers.
const affinitySetSize = 65536

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
	return &Part{
		Sets: sharedSets,
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
			{Name: "filter-input", Hook: &Hook{"filter", "input", 0}, Rules: []Rule{nothingUnplaced, nothingUnserved}},
			{Name: "filter-forward", Hook: &Hook{"filter", "forward", 0}, Rules: []Rule{nothingUnplaced, nothingUnserved}},
			{Name: "filter-output", Hook: &Hook{"filter", "output", 0}, Rules: []Rule{nothingUnserved}},
			{Name: "postrouting", Hook: &Hook{"nat", "postrouting", 100}, Rules: []Rule{
				{interfaceIs{out: true, name: "lo"}, accept{}},
				{addressIn{source: true, prefix: loopback}, masquerade{}},
				{translated{}, pairIn{setHairpins}, masquerade{}},
				{addressIn{source: true, prefix: node.PodRange}, addressIn{not: true, prefix: node.PodRange}, masquerade{}},
				{translated{}, addressIn{source: true, not: true, prefix: node.PodRange}, interfaceIs{out: true, not: true, name: node.Bridge}, masquerade{}},
			}},
			{Name: chainRefuse, Rules: []Rule{
				{protocolIs{TCP}, refuse{reset: true}},
				{refuse{}},
			}},
			{Name: chainDiscard, Rules: []Rule{{drop{}}}},
		},
	}
}
