package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// startServer runs a Server on a free port of loopback until the test ends. Its
// zone is given by YAML, the host's resolvers by their addresses, all at a port.
func startServer(t *testing.T, zone string, resolverPort string, resolverAddresses ...string) *Server {
	t.Helper()
	s := newServer(Config{
		Address:      netip.MustParseAddr("127.0.0.1"),
		ClusterIP:    netip.MustParseAddr("10.43.0.10"),
		PodRange:     netip.MustParsePrefix("10.42.0.0/16"),
		ServiceRange: netip.MustParsePrefix("10.43.0.0/16"),
		Resolvers:    filepath.Join(t.TempDir(), "resolv.conf"),
	})
	s.forwarder.resolvers.port = resolverPort
	writeResolvers(t, s, resolverAddresses...)
	for _, text := range strings.Split(zone, "---\n") {
		if text != "" {
			change(t, s.zone, false, text)
		}
	}
	if err := s.listen(0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.answer(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func writeResolvers(t *testing.T, s *Server, addresses ...string) {
	t.Helper()
	var text string
	for _, address := range addresses {
		text += "nameserver " + address + "\n"
	}
	path := s.config.Resolvers
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// ask sends a question by udp or tcp; with changes the query is not an ordinary one.
func ask(t *testing.T, s *Server, network, kind, name string, changes ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[kind])
	for _, change := range changes {
		change(query)
	}
	at := s.udp.LocalAddr().String()
	if network == "tcp" {
		at = s.tcp.Addr().String()
	}
	client := dns.Client{Net: network, Timeout: 20 * time.Second}
	reply, _, err := client.ExchangeContext(t.Context(), query, at)
	if err != nil {
		t.Fatalf("%s %s by %s: %v", kind, name, network, err)
	}
	return reply
}

// summary is the code of a reply and what its answers say.
func summary(reply *dns.Msg) string {
	words := []string{dns.RcodeToString[reply.Rcode]}
	for _, record := range reply.Answer {
		words = append(words, strings.TrimPrefix(record.String(), record.Header().String()))
	}
	return strings.Join(words, " ")
}

const webService = "metadata: {namespace: ns, name: web}\nspec: {clusterIP: 10.43.0.7}\n"

func manyEndpoints(n int) string {
	var b strings.Builder
	b.WriteString("metadata: {namespace: ns, name: many}\nspec: {clusterIP: None}\n---\n" +
		"metadata: {namespace: ns, name: many-a, labels: {kubernetes.io/service-name: many}}\naddressType: IPv4\nports: [{name: http, port: 80}]\nendpoints:\n")
	for i := range n {
		fmt.Fprintf(&b, "- {addresses: [10.42.%d.%d]}\n", i/200, i%200+1)
	}
	return b.String()
}

func TestServerTransports(t *testing.T) {
	s := startServer(t, webService+"---\n"+manyEndpoints(500), "53")
	edns := func(size uint16) func(*dns.Msg) {
		return func(m *dns.Msg) { m.SetEdns0(size, false) }
	}
	for _, test := range []struct {
		network, kind, name string
		change              func(*dns.Msg)
		want                string
		most                int // bytes
		truncated           bool
	}{
		{"udp", "A", "web.ns.svc.cluster.local", nil, "NOERROR 10.43.0.7", 512, false},
		{"tcp", "A", "web.ns.svc.cluster.local", nil, "NOERROR 10.43.0.7", 512, false},
		{"udp", "A", "none.ns.svc.cluster.local", nil, "NXDOMAIN", 512, false},
		{"udp", "A", "many.ns.svc.cluster.local", nil, "NOERROR", 512, true},
		{"udp", "A", "many.ns.svc.cluster.local", edns(1232), "NOERROR", 1232, true},
		{"udp", "A", "many.ns.svc.cluster.local", edns(65535), "NOERROR", 1232, true},
		{"udp", "A", "many.ns.svc.cluster.local", edns(1), "NOERROR", 512, true},
		{"tcp", "A", "many.ns.svc.cluster.local", nil, "NOERROR", 65535, false},
		{"tcp", "SRV", "_http._tcp.many.ns.svc.cluster.local", nil, "NOERROR", 65535, false},
	} {
		var changes []func(*dns.Msg)
		if test.change != nil {
			changes = append(changes, test.change)
		}
		reply := ask(t, s, test.network, test.kind, test.name, changes...)
		reply.Compress = true
		if got := summary(reply); !strings.HasPrefix(got, test.want) || reply.Truncated != test.truncated || reply.Len() > test.most {
			t.Errorf("%v: %.60s, truncated %v, %d bytes", test, got, reply.Truncated, reply.Len())
		}
		if !reply.Authoritative || !reply.RecursionAvailable || (reply.IsEdns0() != nil) != (test.change != nil) {
			t.Errorf("%v: header %v", test, reply.MsgHdr)
		}
		if many := strings.Contains(test.name, "many"); many && !test.truncated && len(reply.Answer) != 500 {
			t.Errorf("%v: %d answers", test, len(reply.Answer))
		}
	}
	first := map[string]bool{}
	for range 50 {
		first[summary(ask(t, s, "tcp", "A", "many.ns.svc.cluster.local"))[:20]] = true
	}
	if len(first) < 2 {
		t.Error("the same endpoint is always the first")
	}
}

// TestExtraIsNoReasonForTCP: addresses nobody asked for are left out of what is
// too long.
func TestExtraIsNoReasonForTCP(t *testing.T) {
	s := startServer(t, manyEndpoints(7), "53")
	reply := ask(t, s, "udp", "SRV", "_http._tcp.many.ns.svc.cluster.local")
	if reply.Truncated || len(reply.Answer) != 7 || len(reply.Extra) != 0 {
		t.Errorf("truncated %v, %d answers, %d beside", reply.Truncated, len(reply.Answer), len(reply.Extra))
	}
	if reply := ask(t, s, "tcp", "SRV", "_http._tcp.many.ns.svc.cluster.local"); len(reply.Extra) != 7 {
		t.Errorf("by TCP %d beside", len(reply.Extra))
	}
}

func TestUnfitQueries(t *testing.T) {
	s := startServer(t, webService, "53")
	const name = "web.ns.svc.cluster.local"
	for want, change := range map[string]func(*dns.Msg){
		"NOTIMP":  func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
		"FORMERR": func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"REFUSED": func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"BADVERS": func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) },
	} {
		reply := ask(t, s, "udp", "A", name, change)
		got := dns.RcodeToString[reply.Rcode]
		if reply.Rcode == dns.RcodeBadVers {
			got = "BADVERS" // its number has two names
		}
		if got != want || len(reply.Answer) > 0 {
			t.Errorf("%s, want %s", summary(reply), want)
		}
	}
	if reply := ask(t, s, "tcp", "AXFR", "cluster.local"); reply.Rcode != dns.RcodeRefused {
		t.Errorf("AXFR: %s", summary(reply))
	}
	// Whoever wants no recursion gets none.
	if reply := ask(t, s, "udp", "A", "example.org", func(m *dns.Msg) { m.RecursionDesired = false }); reply.Rcode != dns.RcodeRefused {
		t.Errorf("without recursion: %s", summary(reply))
	}
}

// TestPortInUse: where port 53 is another's, a free one is taken.
func TestListenTakesBothOrNeither(t *testing.T) {
	s := newServer(Config{Address: netip.MustParseAddr("127.0.0.1")})
	if err := s.listen(0); err != nil {
		t.Fatal(err)
	}
	defer s.tcp.Close()
	taken := uint16(portOf(s.udp.LocalAddr()))
	other := newServer(Config{Address: netip.MustParseAddr("127.0.0.1")})
	if err := other.listen(taken); err == nil {
		t.Error("listens on a port that is taken")
	}
	if err := s.udp.Close(); err != nil {
		t.Fatal(err)
	}
	blocker, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", taken))
	if err != nil {
		t.Skip("somebody else took the port")
	}
	defer blocker.Close()
	if err := other.listen(taken); err == nil {
		t.Error("listens on a port that is taken by TCP")
	}
	if udp, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", taken)); err != nil {
		t.Errorf("the port is still held by UDP: %v", err)
	} else {
		udp.Close()
	}
}

// resolver is a fake of one of the host's: it answers as it is told.
type resolver struct {
	port  string
	asked atomic.Int64
}

func startResolver(t *testing.T, address, port string, handle func(w dns.ResponseWriter, query *dns.Msg)) *resolver {
	t.Helper()
	udp, err := net.ListenPacket("udp", net.JoinHostPort(address, port))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(udp.LocalAddr().String())
	tcp, err := net.Listen("tcp", net.JoinHostPort(address, port))
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{port: port}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		r.asked.Add(1)
		handle(w, query)
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	for _, transport := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		go func() { ended <- serve(ctx, transport) }()
	}
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
	})
	return r
}

// says answers every question with a code and records.
func says(rcode int, records ...string) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetRcode(query, rcode)
		for _, text := range records {
			record, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			if _, ok := record.(*dns.SOA); ok {
				reply.Ns = append(reply.Ns, record)
			} else {
				reply.Answer = append(reply.Answer, record)
			}
		}
		_ = w.WriteMsg(reply)
	}
}

func silent(dns.ResponseWriter, *dns.Msg) {}

func TestForward(t *testing.T) {
	good := says(dns.RcodeSuccess, "www.example.org. 300 IN A 192.0.2.1")
	for name, test := range map[string]struct {
		resolvers []func(dns.ResponseWriter, *dns.Msg) // nil: nobody listens there
		want      string
		asked     []int64
	}{
		"first knows":             {[]func(dns.ResponseWriter, *dns.Msg){good, good}, "NOERROR 192.0.2.1", []int64{1, 0}},
		"no such name":            {[]func(dns.ResponseWriter, *dns.Msg){says(dns.RcodeNameError, "org. 60 IN SOA a. b. 1 2 3 4 60"), good}, "NXDOMAIN", []int64{1, 0}},
		"first is not there":      {[]func(dns.ResponseWriter, *dns.Msg){nil, good}, "NOERROR 192.0.2.1", []int64{0, 1}},
		"first is silent":         {[]func(dns.ResponseWriter, *dns.Msg){silent, good}, "NOERROR 192.0.2.1", []int64{1, 1}},
		"first fails":             {[]func(dns.ResponseWriter, *dns.Msg){says(dns.RcodeServerFailure), good}, "NOERROR 192.0.2.1", []int64{1, 1}},
		"first refuses":           {[]func(dns.ResponseWriter, *dns.Msg){says(dns.RcodeRefused), good}, "NOERROR 192.0.2.1", []int64{1, 1}},
		"answers something else":  {[]func(dns.ResponseWriter, *dns.Msg){otherName, good}, "NOERROR 192.0.2.1", []int64{1, 1}},
		"knows no EDNS":           {[]func(dns.ResponseWriter, *dns.Msg){withoutEDNS(good), good}, "NOERROR 192.0.2.1", []int64{2, 0}},
		"all refuse":              {[]func(dns.ResponseWriter, *dns.Msg){says(dns.RcodeRefused), says(dns.RcodeRefused)}, "REFUSED", []int64{1, 1}},
		"all are silent":          {[]func(dns.ResponseWriter, *dns.Msg){silent, silent}, "SERVFAIL", []int64{2, 1}},
		"none is there":           {[]func(dns.ResponseWriter, *dns.Msg){nil}, "SERVFAIL", []int64{0}},
		"the host has none":       {nil, "SERVFAIL", nil},
		"its answer is truncated": {[]func(dns.ResponseWriter, *dns.Msg){longByUDP(good)}, "NOERROR 192.0.2.1", []int64{2}},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			var named []string
			var started []*resolver
			for i, handle := range test.resolvers {
				address := fmt.Sprintf("127.0.0.%d", i+2)
				named = append(named, address)
				started = append(started, nil)
				if handle != nil {
					started[i] = startResolver(t, address, port, handle)
				}
			}
			s := startServer(t, "", port, named...)
			s.forwarder.attempt = 200 * time.Millisecond
			reply := ask(t, s, "udp", "A", "www.example.org")
			if got := summary(reply); got != test.want || reply.Authoritative {
				t.Errorf("%s, authoritative %v; want %s", got, reply.Authoritative, test.want)
			}
			for i, r := range started {
				if r != nil && r.asked.Load() != test.asked[i] {
					t.Errorf("resolver %d was asked %d times, want %d", i, r.asked.Load(), test.asked[i])
				}
			}
		})
	}
}

func otherName(w dns.ResponseWriter, query *dns.Msg) {
	query.Question[0].Name = "other.example.org."
	says(dns.RcodeSuccess, "other.example.org. 300 IN A 192.0.2.66")(w, query)
}

func withoutEDNS(then func(dns.ResponseWriter, *dns.Msg)) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		if query.IsEdns0() != nil {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(query, dns.RcodeFormatError))
			return
		}
		then(w, query)
	}
}

func longByUDP(then func(dns.ResponseWriter, *dns.Msg)) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			reply := new(dns.Msg).SetReply(query)
			reply.Truncated = true
			_ = w.WriteMsg(reply)
			return
		}
		then(w, query)
	}
}

// freePort returns a port that is free on all addresses of loopback.
func freePort(t *testing.T) string {
	t.Helper()
	udp, err := net.ListenPacket("udp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_, port, _ := net.SplitHostPort(udp.LocalAddr().String())
	return port
}

// TestForwardedIsKept: an answer is asked for once, and so is that there is none;
// the resolver that answered is the first to be asked the next time.
func TestForwardedIsKept(t *testing.T) {
	port := freePort(t)
	refuses := startResolver(t, "127.0.0.2", port, says(dns.RcodeRefused))
	knows := startResolver(t, "127.0.0.3", port, func(w dns.ResponseWriter, query *dns.Msg) {
		if strings.HasPrefix(query.Question[0].Name, "no.") {
			says(dns.RcodeNameError, "org. 60 IN SOA a. b. 1 2 3 4 60")(w, query)
			return
		}
		says(dns.RcodeSuccess, query.Question[0].Name+" 300 IN A 192.0.2.1")(w, query)
	})
	s := startServer(t, "metadata: {namespace: ns, name: out}\nspec: {type: ExternalName, externalName: www.example.org}\n", port, "127.0.0.1", "127.0.0.2", "127.0.0.3", "10.43.0.10")
	for _, name := range []string{"www.example.org", "WWW.example.org", "no.example.org", "no.example.org"} {
		want := "NOERROR 192.0.2.1"
		if strings.HasPrefix(name, "no.") {
			want = "NXDOMAIN"
		}
		if got := summary(ask(t, s, "udp", "A", name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if refuses.asked.Load() != 1 || knows.asked.Load() != 2 {
		t.Errorf("the resolvers were asked %d and %d times, want 1 and 2", refuses.asked.Load(), knows.asked.Load())
	}
	// An alias to outside is followed there, if that is wanted.
	if got := summary(ask(t, s, "udp", "A", "out.ns.svc.cluster.local")); got != "NOERROR www.example.org. 192.0.2.1" {
		t.Errorf("ExternalName: %s", got)
	}
	if got := summary(ask(t, s, "udp", "A", "out.ns.svc.cluster.local", func(m *dns.Msg) { m.RecursionDesired = false })); got != "NOERROR www.example.org." {
		t.Errorf("ExternalName without recursion: %s", got)
	}
	if knows.asked.Load() != 2 {
		t.Error("what is kept was asked for again")
	}
	// Names of the cluster are nobody else's business.
	ask(t, s, "udp", "A", "nothing.ns.svc.cluster.local")
	ask(t, s, "udp", "PTR", "9.0.42.10.in-addr.arpa")
	if refuses.asked.Load()+knows.asked.Load() != 3 {
		t.Error("a name of the cluster was asked for outside")
	}
	// Another resolv.conf is noticed.
	writeResolvers(t, s)
	if got := summary(ask(t, s, "udp", "A", "new.example.org")); got != "SERVFAIL" {
		t.Errorf("without resolvers: %s", got)
	}
	writeResolvers(t, s, "127.0.0.3")
	if got := summary(ask(t, s, "udp", "A", "new.example.org")); got != "NOERROR 192.0.2.1" {
		t.Errorf("with resolvers again: %s", got)
	}
}

// TestForwardIsBounded: when too many wait already, a question fails at once.
func TestForwardIsBounded(t *testing.T) {
	port := freePort(t)
	r := startResolver(t, "127.0.0.2", port, silent)
	s := startServer(t, "", port, "127.0.0.2")
	for range mostForwards {
		s.forwarder.slots <- struct{}{}
	}
	if got := summary(ask(t, s, "udp", "A", "www.example.org")); got != "SERVFAIL" || r.asked.Load() != 0 {
		t.Errorf("%s, and the resolver was asked %d times", got, r.asked.Load())
	}
}
