package pki

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// Renewed is a certificate of this authority's that never ends while the process
// runs: it is made anew when a third of its life is left. It is safe for concurrent
// use.
type Renewed struct {
	obtain func() (Pair, error)
	now    func() time.Time

	mu   sync.Mutex
	pair Pair
	tls  tls.Certificate
}

// KeepServing returns what Serving does, renewed.
func (a *Authority) KeepServing(name string, hosts ...string) (*Renewed, error) {
	return a.keep(name, func() (Pair, error) { return a.Serving(name, hosts...) })
}

// KeepClient returns what Client does, renewed.
func (a *Authority) KeepClient(name, user string, groups ...string) (*Renewed, error) {
	return a.keep(name, func() (Pair, error) { return a.Client(name, user, groups...) })
}

func (a *Authority) keep(name string, obtain func() (Pair, error)) (*Renewed, error) {
	r := &Renewed{obtain: obtain, now: a.now}
	if err := r.renew(); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	return r, nil
}

// Pair returns the certificate and its key of now.
func (r *Renewed) Pair() Pair {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return r.pair
}

// TLS returns what Pair does, as crypto/tls wants it.
func (r *Renewed) TLS() *tls.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	pair := r.tls
	return &pair
}

// look renews the pair when that is due. One that cannot be renewed, because the disk
// is full say, is good for a long time still, and the next look tries again.
func (r *Renewed) look() {
	if r.now().Add(renewBefore).Before(r.tls.Leaf.NotAfter) {
		return
	}
	_ = r.renew()
}

func (r *Renewed) renew() error {
	pair, err := r.obtain()
	if err != nil {
		return err
	}
	parsed, err := pair.TLS()
	if err != nil {
		return err
	}
	r.pair, r.tls = pair, parsed
	return nil
}
