package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TTL is for how many seconds an answer from a Zone may be kept, a negative one
// too.
const TTL = 5

// schemaVersion is that of the specification which the names follow.
const schemaVersion = "1.1.0"

// mostAliases bounds how many ExternalNames in a row are followed.
const mostAliases = 8

// Answer is what a Zone says to a question.
type Answer struct {
	Rcode   int
	Records []dns.RR
	Extra   []dns.RR // addresses of names in Records
	Origin  []dns.RR // the SOA of a negative answer
	Alias   string   // a name outside the zone that Records lead to; empty if they do not
}

// Answer answers a question, or says that its name is not the zone's. It
// depends on nothing but the question and what the zone was told. Records are
// sorted by address.
func (z *Zone) Answer(q dns.Question) (Answer, bool) {
	return z.follow(q, mostAliases)
}

func (z *Zone) follow(q dns.Question, aliases int) (Answer, bool) {
	name := dns.CanonicalName(q.Name)
	if address, ok := reversed(name); ok {
		return z.reverse(q, address)
	}
	if !dns.IsSubDomain(z.domain, name) {
		return Answer{}, false
	}
	labels := dns.SplitDomainName(name)
	path := labels[:len(labels)-dns.CountLabel(z.domain)]
	slices.Reverse(path) // svc, the namespace, the Service, what is below
	l := lookup{zone: z, q: q}
	exists := l.top(path)
	answer := Answer{Records: l.records, Extra: l.extra}
	switch {
	case !exists:
		answer.Rcode = dns.RcodeNameError
	case l.alias != "" && !l.wants(dns.TypeCNAME):
		return z.followAlias(answer, q, l.alias, aliases), true
	}
	if len(answer.Records) == 0 {
		answer.Origin = []dns.RR{z.soa(z.domain)}
	}
	return answer, true
}

// followAlias adds to an answer what the zone knows of a name that it leads to.
func (z *Zone) followAlias(answer Answer, q dns.Question, alias string, left int) Answer {
	q.Name = alias
	if left == 0 {
		answer.Rcode = dns.RcodeServerFailure
		return answer
	}
	next, ours := z.follow(q, left-1)
	if !ours {
		answer.Alias = alias
		return answer
	}
	next.Records = append(answer.Records, next.Records...)
	return next
}

// lookup collects the records of one name, those of the type that is asked for.
type lookup struct {
	zone    *Zone
	q       dns.Question
	records []dns.RR
	extra   []dns.RR
	alias   string
}

// top looks a path below the domain up and says whether the name exists, with
// or without records.
func (l *lookup) top(path []string) bool {
	switch {
	case len(path) == 0:
		l.add(l.zone.soa(l.q.Name))
		l.add(&dns.NS{Hdr: header(l.q.Name, dns.TypeNS), Ns: l.zone.nameOf(dnsService)})
		return true
	case path[0] == "dns-version" && len(path) == 1:
		l.add(&dns.TXT{Hdr: header(l.q.Name, dns.TypeTXT), Txt: []string{schemaVersion}})
		return true
	case path[0] == "svc":
		return l.service(path[1:])
	case path[0] == "pod":
		return l.pod(path[1:])
	}
	return false
}

// service looks up the names of Services: "namespace, name, what is below".
func (l *lookup) service(path []string) bool {
	switch len(path) {
	case 0:
		return true
	case 1:
		return l.zone.namespaces[path[0]] > 0
	}
	key := types.NamespacedName{Namespace: path[0], Name: path[1]}
	e := l.zone.services[key]
	if e == nil || e.service == nil {
		return false
	}
	switch below := path[2:]; {
	case e.service.Spec.Type == corev1.ServiceTypeExternalName:
		return len(below) == 0 && l.external(e.service.Spec.ExternalName)
	case e.headless():
		return l.headless(key, e.endpoints(), below)
	default:
		return l.virtual(key, e, below)
	}
}

// external adds the alias that an ExternalName Service is.
func (l *lookup) external(target string) bool {
	target = dns.Fqdn(target)
	if _, ok := dns.IsDomainName(target); !ok {
		return true
	}
	l.alias = target
	l.records = append(l.records, &dns.CNAME{Hdr: header(l.q.Name, dns.TypeCNAME), Target: target})
	return true
}

// virtual looks up the names of a Service with addresses of its own.
func (l *lookup) virtual(key types.NamespacedName, e *entry, below []string) bool {
	if len(below) == 0 {
		l.addresses(e.clusterAddresses())
		return true
	}
	found := false
	for _, port := range e.service.Spec.Ports {
		if !isPort(below, &port.Name, &port.Protocol) {
			continue
		}
		found = true
		if len(below) == 2 && l.wants(dns.TypeSRV) {
			name := l.zone.nameOf(key)
			l.srv(name, port.Port)
			l.extra = appendAddresses(l.extra, name, e.clusterAddresses(), dns.TypeANY)
		}
	}
	return found
}

// headless looks up the names of a Service whose names lead to its ready
// endpoints.
func (l *lookup) headless(key types.NamespacedName, endpoints []endpoint, below []string) bool {
	if len(below) == 0 || len(below) == 1 && !strings.HasPrefix(below[0], "_") {
		var of []netip.Addr
		for _, e := range endpoints {
			if len(below) == 0 || e.label() == below[0] {
				of = append(of, e.address)
			}
		}
		l.addresses(of)
		return len(of) > 0
	}
	found := false
	type target struct {
		label string
		port  int32
	}
	told := map[target]bool{}
	for _, e := range endpoints {
		for _, port := range e.ports {
			if !isPort(below, port.Name, port.Protocol) {
				continue
			}
			found = true
			if len(below) != 2 || port.Port == nil || !l.wants(dns.TypeSRV) {
				continue
			}
			label := e.label()
			name := label + "." + l.zone.nameOf(key)
			if t := (target{label, *port.Port}); !told[t] {
				told[t] = true
				l.srv(name, *port.Port)
			}
			l.extra = appendAddresses(l.extra, name, []netip.Addr{e.address}, dns.TypeANY)
		}
	}
	l.extra = slices.CompactFunc(l.extra, dns.IsDuplicate) // an endpoint with several ports of the name
	return found
}

// isPort says whether "_tcp", or "_tcp, _http", leads to a port. Ports without
// a name have no name here either.
func isPort(below []string, name *string, protocol *corev1.Protocol) bool {
	if name == nil || *name == "" || len(below) > 2 {
		return false
	}
	is := corev1.ProtocolTCP
	if protocol != nil && *protocol != "" {
		is = *protocol
	}
	return below[0] == "_"+strings.ToLower(string(is)) && (len(below) == 1 || below[1] == "_"+strings.ToLower(*name))
}

// pod looks up the names that are made of a pod's address: they are there
// whether or not a pod is.
func (l *lookup) pod(path []string) bool {
	if len(path) < 2 {
		return true
	}
	address, err := netip.ParseAddr(strings.ReplaceAll(path[1], "-", "."))
	if err != nil || len(path) > 2 || !l.zone.podRange.Contains(address) {
		return false
	}
	l.addresses([]netip.Addr{address})
	return true
}

// reverse answers a question for the name of an address.
func (z *Zone) reverse(q dns.Question, address netip.Addr) (Answer, bool) {
	of := z.addresses[address]
	within := slices.IndexFunc(z.ranges, func(p netip.Prefix) bool { return p.Contains(address) })
	if len(of) == 0 && within < 0 {
		return Answer{}, false
	}
	l := lookup{zone: z, q: q}
	for _, key := range of {
		if e := z.services[key]; e.headless() {
			for _, endpoint := range e.endpoints() {
				if endpoint.address == address {
					l.ptr(endpoint.label() + "." + z.nameOf(key))
				}
			}
			continue
		}
		l.ptr(z.nameOf(key))
	}
	answer := Answer{Records: l.records}
	slices.SortFunc(answer.Records, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
	answer.Records = slices.CompactFunc(answer.Records, dns.IsDuplicate)
	if len(of) == 0 {
		answer.Rcode = dns.RcodeNameError
	}
	if len(answer.Records) == 0 {
		owner := q.Name
		if within >= 0 {
			owner = reverseZone(z.ranges[within])
		}
		answer.Origin = []dns.RR{z.soa(owner)}
	}
	return answer, true
}
