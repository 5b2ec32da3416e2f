package dns

import (
	"time"

	"github.com/miekg/dns"
	"k8s.io/utils/lru"
)

const (
	cacheSize           = 4096            // answers
	largestKept         = 4096            // bytes of an answer; with cacheSize it bounds the memory
	longestKept         = 5 * time.Minute // whatever an answer's TTL is
	longestNegativeKept = 30 * time.Second
)

// asked is a question to the host's resolvers, as far as answers differ by it.
type asked struct {
	name     string // in lower case
	kind     uint16
	dnssec   bool // DO: signatures are wanted
	checking bool // CD: signatures are not to be checked
}

// answerCache keeps answers of the host's resolvers, those asked for last.
type answerCache struct{ answers *lru.Cache }

// kept is an answer as it came, and when.
type kept struct {
	packed []byte
	at     time.Time
	until  time.Time
}

func newAnswerCache() *answerCache { return &answerCache{lru.New(cacheSize)} }

// get returns a copy of an answer whose time is not over, with the TTLs that it
// has now.
func (c *answerCache) get(q asked, now time.Time) *dns.Msg {
	found, ok := c.answers.Get(q)
	if !ok {
		return nil
	}
	k := found.(kept)
	message := new(dns.Msg)
	if !now.Before(k.until) || message.Unpack(k.packed) != nil {
		c.answers.Remove(q)
		return nil
	}
	age(message, now.Sub(k.at))
	return message
}

// put keeps an answer for as long as it says.
func (c *answerCache) put(q asked, message *dns.Msg, now time.Time) {
	lives := lifetime(message)
	if lives <= 0 {
		return
	}
	packed, err := message.Pack()
	if err != nil || len(packed) > largestKept {
		return
	}
	c.answers.Add(q, kept{packed, now, now.Add(lives)})
}

// lifetime returns for how long an answer may be kept: what its shortest TTL
// says, and for a negative one its SOA (RFC 2308). 0 is not at all.
func lifetime(message *dns.Msg) time.Duration {
	if message.Truncated || message.Rcode != dns.RcodeSuccess && message.Rcode != dns.RcodeNameError {
		return 0
	}
	shortest, most := time.Duration(-1), longestKept
	seconds := func(ttl uint32) {
		if d := time.Duration(ttl) * time.Second; shortest < 0 || d < shortest {
			shortest = d
		}
	}
	for _, record := range message.Answer {
		seconds(record.Header().Ttl)
	}
	if message.Rcode == dns.RcodeNameError || len(message.Answer) == 0 {
		most = longestNegativeKept
		told := false
		for _, record := range message.Ns {
			if soa, ok := record.(*dns.SOA); ok {
				seconds(min(soa.Hdr.Ttl, soa.Minttl))
				told = true
			}
		}
		if !told {
			return 0
		}
	}
	return max(0, min(shortest, most))
}

// age counts the TTLs of a message down.
func age(message *dns.Msg, by time.Duration) {
	passed := uint32(max(0, by) / time.Second)
	for _, section := range [][]dns.RR{message.Answer, message.Ns, message.Extra} {
		for _, record := range section {
			if h := record.Header(); h.Rrtype != dns.TypeOPT { // whose TTL is no time
				h.Ttl -= min(h.Ttl, passed)
			}
		}
	}
}
