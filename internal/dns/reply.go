package dns

import (
	"context"
	"math/rand/v2"

	"github.com/miekg/dns"
)

// source is where an answer came from; the metrics tell them apart.
type source string

const (
	fromZone      source = "cluster"
	fromCache     source = "cache"
	fromResolvers source = "forward"
	fromNobody    source = "none" // the question could not be understood or is not answered here
)

// reply answers a query whose names and types anybody may have made up.
func (s *Server) reply(ctx context.Context, query *dns.Msg) (*dns.Msg, source) {
	reply := new(dns.Msg)
	reply.SetReply(query)
	reply.RecursionAvailable = true
	if rcode := unfit(query); rcode != dns.RcodeSuccess {
		reply.Rcode = rcode
		return finish(reply, query), fromNobody
	}
	q := query.Question[0]
	s.mu.RLock()
	answer, ours := s.zone.Answer(q)
	s.mu.RUnlock()
	from := fromZone
	switch {
	case ours:
		reply.Authoritative = true
		reply.Rcode, reply.Answer, reply.Extra, reply.Ns = answer.Rcode, answer.Records, answer.Extra, answer.Origin
		// Many clients take the first: spread them.
		rand.Shuffle(len(reply.Answer), func(i, j int) {
			if sameSet(reply.Answer[i], reply.Answer[j]) {
				reply.Answer[i], reply.Answer[j] = reply.Answer[j], reply.Answer[i]
			}
		})
		if answer.Alias != "" && query.RecursionDesired {
			from = s.forward(ctx, reply, query, answer.Alias)
		}
	case query.RecursionDesired:
		from = s.forward(ctx, reply, query, q.Name)
	default:
		reply.Rcode = dns.RcodeRefused
	}
	return finish(reply, query), from
}

// unfit returns why a query is not answered at all; success is that it is.
func unfit(query *dns.Msg) int {
	switch {
	case query.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case len(query.Question) != 1:
		return dns.RcodeFormatError
	case query.IsEdns0() != nil && query.IsEdns0().Version() != 0:
		return dns.RcodeBadVers
	}
	switch q := query.Question[0]; {
	case q.Qclass != dns.ClassINET, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR, q.Qtype == dns.TypeOPT:
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

func sameSet(a, b dns.RR) bool {
	return a.Header().Rrtype == b.Header().Rrtype && a.Header().Name == b.Header().Name
}

// forward adds what the host's resolvers say of a name to a reply.
func (s *Server) forward(ctx context.Context, reply, query *dns.Msg, name string) source {
	opt := query.IsEdns0()
	message, cached, err := s.forwarder.ask(ctx, asked{
		name:     dns.CanonicalName(name),
		kind:     query.Question[0].Qtype,
		dnssec:   opt != nil && opt.Do(),
		checking: query.CheckingDisabled,
	})
	if err != nil {
		s.config.Log.Debug("not answered", "name", name, "error", err)
		reply.Rcode = dns.RcodeServerFailure
		return fromResolvers
	}
	reply.Rcode = message.Rcode
	reply.AuthenticatedData = message.AuthenticatedData && len(reply.Answer) == 0
	reply.Answer = append(reply.Answer, message.Answer...)
	reply.Ns = message.Ns
	for _, record := range message.Extra {
		if record.Header().Rrtype != dns.TypeOPT {
			reply.Extra = append(reply.Extra, record)
		}
	}
	if cached {
		return fromCache
	}
	return fromResolvers
}

// finish gives a reply the form that the client takes: EDNS if it asked so.
func finish(reply, query *dns.Msg) *dns.Msg {
	if opt := query.IsEdns0(); opt != nil {
		reply.SetEdns0(udpSize, opt.Do())
	} else if reply.Rcode > 0xF {
		reply.Rcode = dns.RcodeServerFailure // longer codes do not fit without EDNS
	}
	return reply
}

// fit shortens a reply to what the client's transport takes.
func fit(reply, query *dns.Msg, udp bool) {
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil {
			size = max(size, min(int(opt.UDPSize()), udpSize))
		}
	}
	reply.Compress = true
	if reply.Len() > size {
		// Addresses nobody asked for are no reason to come again by TCP.
		opt := reply.IsEdns0()
		reply.Extra = nil
		if opt != nil {
			reply.Extra = []dns.RR{opt}
		}
	}
	reply.Truncate(size)
	reply.Compress = true
}
