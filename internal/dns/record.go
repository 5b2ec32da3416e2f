package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/types"
)

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: TTL}
}

// nameOf returns the name of a Service.
func (z *Zone) nameOf(service types.NamespacedName) string {
	return service.Name + "." + service.Namespace + ".svc." + z.domain
}

// soa returns what a negative answer carries, so that it is kept no longer than
// a positive one.
func (z *Zone) soa(owner string) dns.RR {
	return &dns.SOA{Hdr: header(owner, dns.TypeSOA), Ns: z.nameOf(dnsService), Mbox: "hostmaster." + z.domain,
		Serial: z.serial, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: TTL}
}

// wants says whether records of a type are asked for.
func (l *lookup) wants(kind uint16) bool {
	return l.q.Qtype == kind || l.q.Qtype == dns.TypeANY
}

// add adds a record if it is asked for.
func (l *lookup) add(record dns.RR) {
	if l.wants(record.Header().Rrtype) {
		l.records = append(l.records, record)
	}
}

func (l *lookup) addresses(addresses []netip.Addr) {
	l.records = appendAddresses(l.records, l.q.Name, sortedUnique(addresses), l.q.Qtype)
}

// appendAddresses appends the records of a name's addresses that are of a type.
func appendAddresses(to []dns.RR, name string, addresses []netip.Addr, kind uint16) []dns.RR {
	for _, address := range addresses {
		switch {
		case address.Is4() && (kind == dns.TypeA || kind == dns.TypeANY):
			to = append(to, &dns.A{Hdr: header(name, dns.TypeA), A: address.AsSlice()})
		case address.Is6() && (kind == dns.TypeAAAA || kind == dns.TypeANY):
			to = append(to, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: address.AsSlice()})
		}
	}
	return to
}

func (l *lookup) srv(target string, port int32) {
	l.add(&dns.SRV{Hdr: header(l.q.Name, dns.TypeSRV), Weight: 100, Port: uint16(port), Target: target})
}

func (l *lookup) ptr(name string) {
	l.add(&dns.PTR{Hdr: header(l.q.Name, dns.TypePTR), Ptr: name})
}

const reverseDomain = ".in-addr.arpa."

// reversed returns the address that a name asks the name of: that of
// "4.3.2.1.in-addr.arpa." is 1.2.3.4.
func reversed(name string) (netip.Addr, bool) {
	text, ok := strings.CutSuffix(name, reverseDomain)
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(text, ".")
	slices.Reverse(parts)
	address, err := netip.ParseAddr(strings.Join(parts, "."))
	return address, err == nil && address.Is4()
}

// reverseZone returns the name above those of all addresses of an IPv4 prefix.
func reverseZone(prefix netip.Prefix) string {
	bytes := prefix.Addr().As4()
	name := strings.TrimPrefix(reverseDomain, ".")
	for _, b := range bytes[:prefix.Bits()/8] {
		name = strconv.Itoa(int(b)) + "." + name
	}
	return name
}
