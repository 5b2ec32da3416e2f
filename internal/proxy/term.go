package proxy

import (
	"fmt"
	"net/netip"
	"strings"
)

// The terms below are all that the rules are made of. Each has its nft syntax
// here and its netlink form in encode.go.

// addressIn matches packets whose source or destination is, or is not, in a range.
type addressIn struct {
	source bool
	not    bool
	prefix netip.Prefix
}

func (t addressIn) String() string {
	field, op := "daddr", ""
	if t.source {
		field = "saddr"
	}
	if t.not {
		op = "!= "
	}
	return fmt.Sprintf("ip %s %s%s", field, op, t.prefix)
}

// interfaceIs matches packets by the name of the interface they came in by or go out by.
type interfaceIs struct {
	out  bool
	not  bool
	name string
}

func (t interfaceIs) String() string {
	field, op := "iifname", ""
	if t.out {
		field = "oifname"
	}
	if t.not {
		op = "!= "
	}
	return fmt.Sprintf("%s %s%q", field, op, t.name)
}

// addressLocal matches packets whose source or destination is an address of this machine.
type addressLocal struct{ source bool }

func (t addressLocal) String() string {
	if t.source {
		return "fib saddr type local"
	}
	return "fib daddr type local"
}

// protocolIs matches packets of one transport protocol.
type protocolIs struct{ protocol Protocol }

func (t protocolIs) String() string { return "meta l4proto " + t.protocol.String() }

// translated matches packets of connections whose destination was rewritten.
type translated struct{}

func (translated) String() string { return "ct status dnat" }

// invalid matches packets that conntrack could not place.
type invalid struct{}

func (invalid) String() string { return "ct state invalid" }

// pairIn matches packets whose source and destination together are in a set.
type pairIn struct{ set string }

func (t pairIn) String() string { return "ip saddr . ip daddr @" + t.set }

// sourceIn matches packets whose source is in a set.
type sourceIn struct{ set string }

func (t sourceIn) String() string { return "ip saddr @" + t.set }

// dispatchAddress goes to the chain that a map has for the packet's
// destination address, protocol and port, if it has one.
type dispatchAddress struct{ set string }

func (t dispatchAddress) String() string {
	return "ip daddr . meta l4proto . th dport vmap @" + t.set
}

// dispatchPort goes to the chain that a map has for the packet's protocol and
// destination port, if it has one.
type dispatchPort struct{ set string }

func (t dispatchPort) String() string { return "meta l4proto . th dport vmap @" + t.set }

// remember puts the packet's source into a set, or starts its timeout anew.
type remember struct{ set string }

func (t remember) String() string { return fmt.Sprintf("update @%s { ip saddr }", t.set) }

// tcpFlags matches TCP packets in which, of some flags, just those are set.
type tcpFlags struct{ of, are string } // with " | " between them

func (t tcpFlags) String() string { return fmt.Sprintf("tcp flags & (%s) == %s", t.of, t.are) }

// answers matches packets that go from the server's side to the client's.
type answers struct{}

func (answers) String() string { return "ct direction reply" }

// assured matches packets of TCP connections that were established: the client
// has answered the server's answer.
type assured struct{ not bool }

func (t assured) String() string {
	if t.not {
		return "ct status ! assured"
	}
	return "ct status assured"
}

// unreachable matches ICMP errors which say that a packet cannot arrive.
type unreachable struct{}

func (unreachable) String() string { return "icmp type destination-unreachable" }

// countPath adds 1 to what a set has for the path of a TCP connection, which is
// from where the client sent it to who answers.
type countPath struct{ set string }

func (t countPath) String() string {
	return fmt.Sprintf("ct original protocol tcp add @%s { ct original ip daddr . ct reply ip saddr . ct original proto-dst . ct reply proto-src counter }", t.set)
}

// endsFirst matches packets of TCP connections that are not in a set, and puts
// them in: by the endpoint, and the client as the endpoint sees it.
type endsFirst struct{ set string }

func (t endsFirst) String() string {
	const connection = "ct reply ip daddr . ct reply ip saddr . ct reply proto-dst . ct reply proto-src"
	return fmt.Sprintf("ct original protocol tcp %[1]s != @%[2]s add @%[2]s { %[1]s }", connection, t.set)
}

// toOneOf rewrites the destination to one of some endpoints, each equally likely.
type toOneOf struct{ endpoints []netip.AddrPort }

func (t toOneOf) String() string {
	if len(t.endpoints) == 1 {
		return "dnat to " + t.endpoints[0].String()
	}
	choices := make([]string, len(t.endpoints))
	for i, e := range t.endpoints {
		choices[i] = fmt.Sprintf("%d : %s . %d", i, e.Addr(), e.Port())
	}
	return fmt.Sprintf("dnat ip to numgen random mod %d map { %s }", len(choices), strings.Join(choices, ", "))
}

// goToOneOf goes to one of some chains, each equally likely.
type goToOneOf struct{ chains []string }

func (t goToOneOf) String() string {
	choices := make([]string, len(t.chains))
	for i, c := range t.chains {
		choices[i] = fmt.Sprintf("%d : goto %s", i, c)
	}
	return fmt.Sprintf("numgen random mod %d vmap { %s }", len(choices), strings.Join(choices, ", "))
}

// goTo ends this chain and goes on in another.
type goTo struct{ chain string }

func (t goTo) String() string { return "goto " + t.chain }

// jumpTo goes on in another chain and comes back when that has no verdict.
type jumpTo struct{ chain string }

func (t jumpTo) String() string { return "jump " + t.chain }

// accept ends the evaluation of the base chain.
type accept struct{}

func (accept) String() string { return "accept" }

// drop throws the packet away.
type drop struct{}

func (drop) String() string { return "drop" }

// masquerade rewrites the source to the address of the outgoing interface.
type masquerade struct{}

func (masquerade) String() string { return "masquerade" }

// refuse answers that nobody listens: by a TCP reset, or by ICMP port unreachable.
type refuse struct{ reset bool }

func (t refuse) String() string {
	if t.reset {
		return "reject with tcp reset"
	}
	return "reject with icmp port-unreachable"
}
