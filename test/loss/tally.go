package loss

import (
	"errors"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// crossed is the error of a request that was sent on a connection which had
// answered before, and that ended before the first byte of the answer came.
// HTTP lets a client send such a request again by itself if it is idempotent
// (RFC 9110, 9.2.2); whether the server has done what it asks is not known.
type crossed struct{ err error }

// Error implements error.
func (c crossed) Error() string { return c.err.Error() }

// Unwrap returns what ended the connection.
func (c crossed) Unwrap() error { return c.err }

// Tally is what came of the requests.
type Tally struct {
	Sent     int            // requests, each once
	Failed   int            // without a whole answer
	Reset    int            // of the failed: by a TCP reset
	Repeated int            // sent again, on another connection, because they had crossed the end of theirs
	Reasons  map[string]int // of the failed and the repeated
}

// Lost is what a client loses that may not repeat a request.
func (t Tally) Lost() int { return t.Failed + t.Repeated }

// tally counts for many clients.
type tally struct {
	mu    sync.Mutex
	total Tally
}

// done notes how a request ended.
func (t *tally) done(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.Sent++
	if err == nil {
		return
	}
	t.total.Failed++
	if wasReset(err) {
		t.total.Reset++
	}
	t.reason("failed", err)
}

// again notes that a request is sent once more.
func (t *tally) again(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.Repeated++
	t.reason("repeated", err)
}

var addresses = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// reason notes why, without the client's port, which is another each time.
func (t *tally) reason(what string, err error) {
	if t.total.Reasons == nil {
		t.total.Reasons = map[string]int{}
	}
	t.total.Reasons[what+": "+addresses.ReplaceAllString(err.Error(), "…")]++
}

func (t *tally) sent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total.Sent
}

// wasReset also reads the text: gRPC has no wrapped errors.
func wasReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), "connection reset") || strings.Contains(err.Error(), "broken pipe")
}
