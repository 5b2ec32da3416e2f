package dns

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// message makes an answer of records; an SOA goes where it belongs.
func message(t *testing.T, rcode int, records ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	m.Response, m.Rcode = true, rcode
	for _, text := range records {
		record, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := record.(*dns.SOA); ok {
			m.Ns = append(m.Ns, record)
		} else {
			m.Answer = append(m.Answer, record)
		}
	}
	return m
}

func TestLifetime(t *testing.T) {
	truncated := message(t, dns.RcodeSuccess, "a. 60 IN A 192.0.2.1")
	truncated.Truncated = true
	for name, test := range map[string]struct {
		message *dns.Msg
		want    time.Duration
	}{
		"the shortest":       {message(t, dns.RcodeSuccess, "a. 60 IN CNAME b.", "b. 20 IN A 192.0.2.1"), 20 * time.Second},
		"no longer than":     {message(t, dns.RcodeSuccess, "a. 999999 IN A 192.0.2.1"), longestKept},
		"not at all":         {message(t, dns.RcodeSuccess, "a. 0 IN A 192.0.2.1"), 0},
		"no such name":       {message(t, dns.RcodeNameError, "org. 60 IN SOA a. b. 1 2 3 4 10"), 10 * time.Second},
		"no record":          {message(t, dns.RcodeSuccess, "org. 15 IN SOA a. b. 1 2 3 4 60"), 15 * time.Second},
		"negative for long":  {message(t, dns.RcodeNameError, "org. 3600 IN SOA a. b. 1 2 3 4 3600"), longestNegativeKept},
		"negative by alias":  {message(t, dns.RcodeNameError, "a. 5 IN CNAME b.", "org. 60 IN SOA a. b. 1 2 3 4 60"), 5 * time.Second},
		"negative, for ever": {message(t, dns.RcodeNameError), 0},
		"failed":             {message(t, dns.RcodeServerFailure, "org. 60 IN SOA a. b. 1 2 3 4 10"), 0},
		"truncated":          {truncated, 0},
	} {
		if got := lifetime(test.message); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestCacheCountsDown(t *testing.T) {
	c, q, now := newAnswerCache(), asked{name: "www.example.org.", kind: dns.TypeA}, time.Unix(1000, 0)
	m := message(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1", "www.example.org. 90 IN A 192.0.2.2")
	m.SetEdns0(1232, true)
	c.put(q, m, now)
	for _, test := range []struct {
		after time.Duration
		want  string
	}{{0, "60 90"}, {10500 * time.Millisecond, "50 80"}, {59 * time.Second, "1 31"}, {60 * time.Second, ""}, {0, ""}} {
		var got string
		if found := c.get(q, now.Add(test.after)); found != nil {
			for _, record := range found.Answer {
				got = strings.TrimSpace(got + " " + strings.Fields(record.String())[1])
			}
			if !found.IsEdns0().Do() {
				t.Error("the flags of EDNS were taken for a time")
			}
		}
		if got != test.want {
			t.Errorf("after %v: %q, want %q", test.after, got, test.want)
		}
	}
	if c.get(asked{name: "www.example.org.", kind: dns.TypeA, dnssec: true}, now) != nil {
		t.Error("with signatures it is another question")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c, now := newAnswerCache(), time.Unix(1000, 0)
	for i := range cacheSize + 10 {
		c.put(asked{name: "www.example.org.", kind: uint16(i)}, message(t, dns.RcodeSuccess, "a. 60 IN A 192.0.2.1"), now)
	}
	if n := c.answers.Len(); n != cacheSize {
		t.Errorf("%d answers are kept, want %d", n, cacheSize)
	}
	q, long := asked{name: "long."}, message(t, dns.RcodeSuccess)
	for range 400 {
		long.Answer = append(long.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{"0123456789"}})
	}
	if c.put(q, long, now); c.get(q, now) != nil {
		t.Error("a very long answer is kept")
	}
}
