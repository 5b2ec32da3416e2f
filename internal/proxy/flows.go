package proxy

import (
	"net/netip"
	"slices"
)

// Flow is one entry of the kernel's connection tracking.
type Flow struct {
	Protocol    Protocol
	Client      netip.AddrPort // where the first packet came from
	Destination netip.AddrPort // where it was sent
	Server      netip.AddrPort // who answers, after translation
	Answered    bool           // it has
}

// Flows is the edge to connection tracking: Conntrack is the real one and
// MemoryFlows the fake.
type Flows interface {
	// Forget deletes the entries of a protocol (0 is any) to a server (the zero
	// address is any) that stale says yes to, and returns how many.
	Forget(protocol Protocol, server netip.Addr, stale func(Flow) bool) (int, error)
}

// Sweep is what must be forgotten of earlier flows after a change of rules:
// they keep the translation that they began with, whatever the rules say now.
//
// Connections that can end by themselves are left to do so. But datagrams have
// no end: a client that goes on sending from one port would stay with an
// endpoint that left for as long as it sends. What is left of any kind to
// the address of a pod that is no more answers nobody: a client that takes the
// same port again would be led there. And a connection that nobody has answered
// is not one yet: its client asks again, after a second at first, and would ask
// a dead machine until it gives up. Forgotten, it is led to another endpoint.
type Sweep struct {
	Gone       []netip.Addr            // pods that are no more
	Unanswered []netip.AddrPort        // who left a while ago: what they have not answered
	datagrams  map[slot]datagramTarget // what UDP ways in of changed Services lead to
	left       []netip.AddrPort        // who has left now: a later sweep's Unanswered
}

// datagramTarget is where the datagrams of one way in may go, and may no more.
type datagramTarget struct {
	now  []netip.AddrPort
	left []netip.AddrPort
}

// Empty says that there is nothing to forget now.
func (s Sweep) Empty() bool {
	return len(s.Gone) == 0 && len(s.Unanswered) == 0 && len(s.datagrams) == 0
}

// sweepAfter returns what of earlier flows must be forgotten after the rules
// changed from those of one Ruleset to another's. Of pods that are no more it
// is told.
func sweepAfter(old, next []*Part, gone []netip.Addr) Sweep {
	sweep := Sweep{Gone: gone, datagrams: map[slot]datagramTarget{}}
	differing(old, next, func(old, next *Part) {
		sweep.left = append(sweep.left, missing(old.targetsBy(TCP), next.targetsBy(TCP))...)
		was, now := old.targetsBy(UDP), next.targetsBy(UDP)
		for way := range was {
			if _, ok := now[way]; !ok {
				now[way] = nil
			}
		}
		for way, targets := range now {
			before, existed := was[way]
			if existed && slices.Equal(before, targets) {
				continue
			}
			left := slices.DeleteFunc(slices.Clone(before), func(t netip.AddrPort) bool { return slices.Contains(targets, t) })
			sweep.datagrams[way] = datagramTarget{now: targets, left: left}
		}
	})
	return sweep
}

// missing returns the endpoints that some way led to before and none does now.
func missing(was, now map[slot][]netip.AddrPort) (left []netip.AddrPort) {
	stay := map[netip.AddrPort]bool{}
	for _, targets := range now {
		for _, t := range targets {
			stay[t] = true
		}
	}
	for _, targets := range was {
		left = append(left, slices.DeleteFunc(slices.Clone(targets), func(t netip.AddrPort) bool { return stay[t] })...)
	}
	return sortedUnique(left)
}

// targetsBy returns the endpoints of each way into a part by a protocol.
func (p *Part) targetsBy(protocol Protocol) map[slot][]netip.AddrPort {
	targets := map[slot][]netip.AddrPort{}
	for _, e := range p.Elements {
		if e.Goto != "" && e.Key.Protocol == protocol {
			targets[e.slot()] = sortedUnique(p.targets(e.Goto))
		}
	}
	return targets
}

// targets returns the endpoints that a chain may lead to.
func (p *Part) targets(name string) []netip.AddrPort {
	i := slices.IndexFunc(p.Chains, func(c Chain) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	var found []netip.AddrPort
	for _, rule := range p.Chains[i].Rules {
		for _, term := range rule {
			if t, ok := term.(toOneOf); ok {
				found = append(found, t.endpoints...)
			}
		}
		for _, next := range rule.references().chains {
			found = append(found, p.targets(next)...)
		}
	}
	return found
}

// stale says whether a UDP flow goes where it may not go any more. A flow to
// an address of a Service must go to one of its endpoints. A flow to the
// number of a node port may be somebody else's: it is stale only if it goes to
// an endpoint that left.
func (s Sweep) stale(f Flow) bool {
	if target, ok := s.datagrams[slot{setServices, Key{Address: f.Destination.Addr(), Protocol: f.Protocol, Port: f.Destination.Port()}}]; ok {
		return !slices.Contains(target.now, f.Server)
	}
	target := s.datagrams[slot{setNodePorts, Key{Protocol: f.Protocol, Port: f.Destination.Port()}}]
	return slices.Contains(target.left, f.Server)
}

// Apply forgets, and returns how many flows it forgot.
func (s Sweep) Apply(flows Flows) (int, error) {
	forgotten := 0
	for _, address := range s.Gone {
		n, err := flows.Forget(0, address, func(f Flow) bool { return f.Server.Addr() == address && f.Destination.Addr() != address })
		if forgotten += n; err != nil {
			return forgotten, err
		}
	}
	if len(s.Unanswered) > 0 {
		only := netip.Addr{} // all are looked at in one go
		if len(s.Unanswered) == 1 {
			only = s.Unanswered[0].Addr()
		}
		n, err := flows.Forget(TCP, only, func(f Flow) bool {
			return !f.Answered && f.Destination != f.Server && slices.Contains(s.Unanswered, f.Server)
		})
		if forgotten += n; err != nil {
			return forgotten, err
		}
	}
	if len(s.datagrams) == 0 {
		return forgotten, nil
	}
	n, err := flows.Forget(UDP, netip.Addr{}, s.stale)
	return forgotten + n, err
}

// MemoryFlows is a Flows that lives in memory, for tests. It is not safe for
// concurrent use.
type MemoryFlows struct{ Flows []Flow }

// Forget implements Flows.
func (m *MemoryFlows) Forget(protocol Protocol, server netip.Addr, stale func(Flow) bool) (int, error) {
	before := len(m.Flows)
	m.Flows = slices.DeleteFunc(m.Flows, func(f Flow) bool {
		return (protocol == 0 || f.Protocol == protocol) && (!server.IsValid() || f.Server.Addr() == server) && stale(f)
	})
	return before - len(m.Flows), nil
}
