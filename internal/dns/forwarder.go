package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	attemptTimeout = 1500 * time.Millisecond // for one resolver to answer
	forwardTimeout = 4500 * time.Millisecond // for all: clients wait 5 s as a rule
	leastAttempts  = 3                       // when no resolver answers
	mostForwards   = 512                     // queries that wait for resolvers at a time
	udpSize        = 1232                    // bytes that pass everywhere without fragments
)

var (
	errNoResolvers = errors.New("the host has no resolver")
	errBusy        = errors.New("too many queries wait for the host's resolvers")
)

// forwarder asks the host's resolvers and keeps what they say.
type forwarder struct {
	resolvers *resolvers
	cache     *answerCache
	flights   singleflight.Group // one for each question, however many ask it
	slots     chan struct{}
	attempt   time.Duration // for one resolver to answer
	preferred atomic.Int64  // index of the resolver that answered last
}

func newForwarder(hosts *resolvers) *forwarder {
	return &forwarder{resolvers: hosts, cache: newAnswerCache(), slots: make(chan struct{}, mostForwards), attempt: attemptTimeout}
}

// ask returns the resolvers' answer and whether it was kept from before. The
// message is the caller's. An error means that nobody could say.
func (f *forwarder) ask(ctx context.Context, q asked) (message *dns.Msg, cached bool, err error) {
	if message := f.cache.get(q, time.Now()); message != nil {
		return message, true, nil
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, false, errBusy
	}
	packed, err, _ := f.flights.Do(fmt.Sprint(q), func() (any, error) {
		message, err := f.fetch(ctx, q)
		if err != nil {
			return nil, err
		}
		f.cache.put(q, message, time.Now())
		return message.Pack()
	})
	if err != nil {
		return nil, false, err
	}
	message = new(dns.Msg)
	return message, false, message.Unpack(packed.([]byte))
}

// fetch asks one resolver after the other, beginning with the one that
// answered last. What one refuses or fails at, another may know.
func (f *forwarder) fetch(ctx context.Context, q asked) (*dns.Msg, error) {
	servers, err := f.resolvers.addresses()
	if err != nil {
		return nil, err
	}
	if len(servers) == 0 {
		return nil, errNoResolvers
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	var failed error
	var refused *dns.Msg
	first := int(f.preferred.Load()) % len(servers)
	attempts := max(len(servers), leastAttempts)
	for i := 0; i < attempts && ctx.Err() == nil; i++ {
		if i >= len(servers) && refused != nil {
			break
		}
		at := (first + i) % len(servers)
		message, err := exchange(ctx, servers[at], q, f.attempt)
		if err != nil {
			failed = fmt.Errorf("resolver %s: %w", servers[at], err)
			continue
		}
		if message.Rcode == dns.RcodeSuccess || message.Rcode == dns.RcodeNameError {
			f.preferred.Store(int64(at))
			return message, nil
		}
		refused = message
	}
	if refused != nil {
		return refused, nil
	}
	return nil, failed
}

// exchange asks one resolver, by UDP, then by TCP if the answer is too long for
// that, and without EDNS if it does not know that.
func exchange(ctx context.Context, server string, q asked, patience time.Duration) (*dns.Msg, error) {
	query := new(dns.Msg)
	query.SetQuestion(q.name, q.kind)
	query.CheckingDisabled = q.checking
	query.SetEdns0(udpSize, q.dnssec)
	message, err := exchangeBy(ctx, "udp", server, query, patience)
	if err == nil && message.Rcode == dns.RcodeFormatError {
		query.Extra = nil
		message, err = exchangeBy(ctx, "udp", server, query, patience)
	}
	if err == nil && message.Truncated {
		message, err = exchangeBy(ctx, "tcp", server, query, patience)
	}
	return message, err
}

func exchangeBy(ctx context.Context, network, server string, query *dns.Msg, patience time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := dns.Client{Net: network, UDPSize: udpSize, Timeout: patience}
	message, _, err := client.ExchangeContext(ctx, query, server)
	if err != nil {
		return nil, err
	}
	if !answers(message, query) {
		return nil, errors.New("its answer is to another question")
	}
	return message, nil
}

// answers says whether a message is an answer to a query.
func answers(message, query *dns.Msg) bool {
	if !message.Response || len(message.Question) != 1 {
		return false
	}
	got, want := message.Question[0], query.Question[0]
	return strings.EqualFold(got.Name, want.Name) && got.Qtype == want.Qtype && got.Qclass == want.Qclass
}
