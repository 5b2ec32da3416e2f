package dns

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// packets are those to begin with: they can be read, or nearly.
func packets(f *testing.F) [][]byte {
	var all [][]byte
	for name, kind := range map[string]uint16{
		"web.ns.svc.cluster.local.": dns.TypeA, "_http._tcp.many.ns.svc.cluster.local.": dns.TypeSRV,
		"5.0.42.10.in-addr.arpa.": dns.TypePTR, "out.ns.svc.cluster.local.": dns.TypeANY,
		"10-42-0-1.ns.pod.cluster.local.": dns.TypeAAAA, "cluster.local.": dns.TypeSOA, ".": dns.TypeNS, "a.example.org.": dns.TypeTXT,
	} {
		query := new(dns.Msg).SetQuestion(name, kind)
		for range 2 {
			packed, err := query.Pack()
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, packed, packed[:len(packed)-3])
			query.SetEdns0(600, true)
		}
	}
	return all
}

// FuzzReply: whatever comes, the reply is one to it and has a size that the
// client takes.
func FuzzReply(f *testing.F) {
	for _, packet := range packets(f) {
		f.Add(packet)
	}
	s := newServer(Config{Resolvers: filepath.Join(f.TempDir(), "none")})
	s.zone = newTestZone()
	for _, text := range []string{webService, "metadata: {namespace: ns, name: many}\nspec: {clusterIP: None}\n",
		"metadata: {namespace: ns, name: a, labels: {kubernetes.io/service-name: many}}\nendpoints: [{addresses: [10.42.0.5], hostname: x}]\nports: [{name: http, port: 1}]\n",
		"metadata: {namespace: ns, name: out}\nspec: {type: ExternalName, externalName: example.org}\n"} {
		change(f, s.zone, false, text)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		query := new(dns.Msg)
		if query.Unpack(packet) != nil {
			return
		}
		for _, udp := range []bool{true, false} {
			reply, _ := s.reply(t.Context(), query)
			fit(reply, query, udp)
			packed, err := reply.Pack()
			if err != nil {
				continue // a name that can be read and not be written: there is no reply
			}
			if !reply.Response || reply.Id != query.Id || udp && len(packed) > udpSize && len(query.Question) < 2 {
				t.Errorf("%d bytes: %v", len(packed), reply)
			}
		}
	})
}

// FuzzResolved: whatever a resolver says, it can be kept and told.
func FuzzResolved(f *testing.F) {
	for _, packet := range packets(f) {
		f.Add(packet, int64(3))
	}
	f.Fuzz(func(t *testing.T, packet []byte, after int64) {
		message := new(dns.Msg)
		if message.Unpack(packet) != nil {
			return
		}
		answers(message, new(dns.Msg).SetQuestion("a.example.org.", dns.TypeA))
		c, now := newAnswerCache(), time.Unix(0, 0)
		c.put(asked{}, message, now)
		if found := c.get(asked{}, now.Add(time.Duration(after))); found != nil && found.Truncated {
			t.Error("a truncated answer was kept")
		}
	})
}
