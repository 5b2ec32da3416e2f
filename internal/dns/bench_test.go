package dns

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/types"
)

// benchmarkZone has 1,000 Services of 10 endpoints each, every other headless.
func benchmarkZone(b *testing.B) *Zone {
	zone := newTestZone()
	for i := range 1000 {
		ip := fmt.Sprintf("10.43.%d.%d", i/250, i%250+1)
		if i%2 == 1 {
			ip = "None"
		}
		change(b, zone, false, fmt.Sprintf("metadata: {namespace: ns, name: s%d}\nspec: {clusterIP: %s, ports: [{name: http, port: 80}]}\n", i, ip))
		slice := fmt.Sprintf("metadata: {namespace: ns, name: s%d-a, labels: {kubernetes.io/service-name: s%d}}\nports: [{name: http, port: 80}]\nendpoints:\n", i, i)
		for j := range 10 {
			slice += fmt.Sprintf("- {addresses: [10.42.%d.%d]}\n", i/25, i%25*10+j)
		}
		change(b, zone, false, slice)
	}
	return zone
}

func BenchmarkAnswer(b *testing.B) {
	zone := benchmarkZone(b)
	for name, q := range map[string]dns.Question{
		"virtual":  {Name: "s500.ns.svc.cluster.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET},
		"headless": {Name: "s501.ns.svc.cluster.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET},
		"missing":  {Name: "www.example.org.ns.svc.cluster.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ours := zone.Answer(q); !ours {
					b.Fatal("not ours")
				}
			}
		})
	}
}

// BenchmarkChange is the cost of a changed slice among 1,000 Services.
func BenchmarkChange(b *testing.B) {
	zone := benchmarkZone(b)
	for _, name := range []string{"s500", "s501"} {
		slice := zone.services[types.NamespacedName{Namespace: "ns", Name: name}].slices[name+"-a"]
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				zone.SetSlice(slice)
			}
		})
	}
}

// BenchmarkQueries asks by UDP on loopback, from many clients at a time; the
// clients' work is in the time.
func BenchmarkQueries(b *testing.B) {
	s := newServer(Config{Address: netip.MustParseAddr("127.0.0.1")})
	s.zone = benchmarkZone(b)
	if err := s.listen(0); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.answer(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		conn, err := dns.Dial("udp", s.udp.LocalAddr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		client := dns.Client{}
		for pb.Next() {
			query := new(dns.Msg).SetQuestion("s500.ns.svc.cluster.local.", dns.TypeA)
			if reply, _, err := client.ExchangeWithConn(query, conn); err != nil || len(reply.Answer) != 1 {
				b.Error(reply, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
}
