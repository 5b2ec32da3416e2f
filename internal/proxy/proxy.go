package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
)

const (
	// checkEvery bounds how long damage by others may go unseen should the
	// kernel not tell of it.
	checkEvery = 30 * time.Second

	// retryFirst and retryMost are the waits after a first and after many errors.
	retryFirst = 50 * time.Millisecond
	retryMost  = 5 * time.Second
)

// Config is all that a Proxy needs. The fields without a remark are required.
type Config struct {
	NodeName     string
	PodRange     netip.Prefix  // of the pods of all nodes
	ServiceRange netip.Prefix  // of cluster IPs
	Bridge       string        // name of the interface that this node's pods are behind
	Client       client.Client // writes the Lease
	Cache        Informers     // a cache.Cache whose Services and EndpointSlices are whole

	Kernel   Kernel       // default: that of the network namespace that New is called in
	Counters Counters     // default: the Kernel, if it is a Memory; else likewise
	Flows    Flows        // default: likewise
	Log      *slog.Logger // default: slog.Default
}

// Proxy keeps the kernel's rules equal to what Services and EndpointSlices say
// and publishes up to which version they do.
type Proxy struct {
	config    Config
	log       *slog.Logger
	table     *Table
	publisher *publisher
	sweeper   *sweeper
	meter     *meter
	recorder  *recorder

	mu    sync.Mutex // guards what follows
	model *Model
	seen  uint64 // the highest resourceVersion of a slice in the model
	await uint64 // the highest that an agent has asked for
	stats Stats

	changed   chan struct{} // the model was
	disturbed chan struct{} // the kernel's rules were changed, by us or others
	counted   chan struct{} // the counters were read: those that are not needed may go
	applied   Ruleset       // only Run's goroutine touches it
}

// Stats counts what a Proxy has done since it was made.
type Stats struct {
	Table     TableStats
	Errors    int           // commits and checks that failed
	Repaired  int           // times that what others did to the table was undone
	LastTook  time.Duration // from the change in the model to the rules in the kernel, for the last change
	Published uint64        // the last resourceVersion written to the Lease
	Forgotten int           // connection tracking entries deleted
}

// New returns a Proxy that is not running yet. It fails when a range is not
// IPv4, and when the kernel does not speak nftables or lets us not.
func New(config Config) (*Proxy, error) {
	if !config.PodRange.Addr().Is4() || !config.ServiceRange.Addr().Is4() {
		return nil, fmt.Errorf("pod range %s, service range %s: both must be IPv4", config.PodRange, config.ServiceRange)
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if err := config.openKernel(); err != nil {
		return nil, err
	}
	log := config.Log.With("part", "proxy")
	p := &Proxy{
		config:    config,
		log:       log,
		table:     NewTable(config.Kernel),
		publisher: newPublisher(config.Client, config.NodeName, log),
		sweeper:   newSweeper(config.Flows, log),
		model: NewModel(Node{Name: config.NodeName, PodRange: config.PodRange.Masked(),
			ServiceRange: config.ServiceRange.Masked(), Bridge: config.Bridge}),
		changed:   make(chan struct{}, 1),
		disturbed: make(chan struct{}, 1),
		counted:   make(chan struct{}, 1),
	}
	p.meter = newMeter(config.Counters, locked(p, p.model.Owner))
	p.recorder = newRecorder(config, p.meter.read, locked(p, p.model.Leaving), log)
	return p, nil
}

// openKernel opens the edges to the kernel that were not given.
func (c *Config) openKernel() error {
	if c.Kernel == nil {
		kernel, err := NewNetlink(0)
		if err != nil {
			return err
		}
		if _, err := kernel.Generation(); err != nil {
			return errors.Join(fmt.Errorf("nftables in the kernel (nf_tables, and CAP_NET_ADMIN): %w", err), kernel.Close())
		}
		c.Kernel = kernel
	}
	if memory, ok := c.Kernel.(*Memory); ok && c.Counters == nil {
		c.Counters = memory
	}
	if c.Counters == nil {
		counters, err := NewNetlink(0)
		if err != nil {
			return err
		}
		c.Counters = counters
	}
	if c.Flows == nil {
		c.Flows = NewConntrack(0)
	}
	return nil
}

// locked returns a function that asks the model under the mutex.
func locked[Q, A any](p *Proxy, ask func(Q) A) func(Q) A {
	return func(question Q) A {
		p.mu.Lock()
		defer p.mu.Unlock()
		return ask(question)
	}
}

// Stats returns the counts so far.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	stats := p.stats
	p.mu.Unlock()
	stats.Published = p.publisher.version()
	stats.Forgotten = p.sweeper.count()
	return stats
}

// Run serves until ctx ends, and then leaves the rules as they are: they serve
// on without it. It writes no rule before all Services and slices are known.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	for _, edge := range []any{p.config.Kernel, p.config.Counters} {
		if closer, ok := edge.(interface{ Close() error }); ok {
			defer func() { _ = closer.Close() }()
		}
	}
	if err := p.watch(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("service proxy: %w", err)
	}
	helpers.Go(func() { p.publisher.run(ctx) })
	helpers.Go(func() { p.sweeper.run(ctx) })
	helpers.Go(func() { p.listen(ctx) })
	helpers.Go(func() { p.record(ctx) })
	helpers.Go(func() { p.meter.run(ctx, func() { notify(p.counted) }, p.log) })
	p.loop(ctx)
	return nil
}

// loop applies each change at once; what comes during a commit goes into the
// next one together.
func (p *Proxy) loop(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	wait := retryFirst
	var retry <-chan time.Time
	notify(p.changed)
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
			err = p.apply(ctx)
		case <-retry:
			err = p.apply(ctx)
		case <-p.disturbed:
			if err = p.check(); err == nil {
				continue // an apply that failed is still to be tried again
			}
		case <-ticker.C:
			if err = p.check(); err == nil {
				continue
			}
		case <-p.counted:
			p.tidy()
			continue
		}
		retry = nil
		if err == nil {
			wait = retryFirst
			continue
		}
		p.log.Error("rules not applied; will try again", "error", err, "after", wait)
		p.count(func(s *Stats) { s.Errors++ })
		retry = time.After(wait)
		wait = min(2*wait, retryMost)
	}
}

// apply brings the kernel to the present model, and says so to who waits.
func (p *Proxy) apply(ctx context.Context) error {
	began := time.Now()
	want, gone, toPublish, incomplete := p.decide(ctx)

	if err := p.table.Set(want); err != nil {
		p.sweeper.add(Sweep{Gone: gone})
		return err
	}
	p.sweeper.add(sweepAfter(p.applied.Parts, want.Parts, gone))
	p.applied = want
	p.count(func(s *Stats) { s.LastTook = time.Since(began) })
	if toPublish > 0 {
		p.publisher.publish(toPublish)
	}
	return incomplete
}

// decide takes what the model amounts to now, and the version to publish once
// that is applied: 0 when nobody waits for one, or when it would say too much.
// The error is that of the look which tells.
func (p *Proxy) decide(ctx context.Context) (want Ruleset, gone []netip.Addr, toPublish uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	want, gone = p.model.Compile(), p.model.Gone()
	published := p.publisher.asked()
	if max(p.model.Terminating(), p.await) <= published || p.seen <= published {
		return want, gone, 0, nil
	}
	complete, err := p.complete(ctx)
	if !complete {
		return want, gone, 0, err
	}
	return want, gone, p.seen, nil
}

// complete says whether the model holds every slice that the cache has. After
// a broken watch the cache is filled anew at once, but told of object by
// object: until the last, the highest version seen says nothing of the others.
// The mutex is held, so that the answer is of the very model that is compiled.
func (p *Proxy) complete(ctx context.Context) (bool, error) {
	var cached discoveryv1.EndpointSliceList
	if err := p.config.Cache.List(ctx, &cached, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("list cached endpoint slices: %w", err)
	}
	for i := range cached.Items {
		if !p.model.Has(&cached.Items[i]) {
			return false, nil // what is missing is on its way and wakes us again
		}
	}
	return true, nil
}

// check undoes what others did to the table.
func (p *Proxy) check() error {
	if p.applied.Parts == nil {
		return nil
	}
	repaired, err := p.table.Check(p.applied)
	if repaired {
		p.log.Warn("somebody else changed the nftables table; restored it", "table", TableName)
		p.count(func(s *Stats) { s.Repaired++ })
	}
	return err
}

// tidy deletes the counters of pods and Services that are no more.
func (p *Proxy) tidy() {
	inUse := func(path Path) bool {
		if path.Endpoint == path.Way {
			return p.model.Owner(path.Way) != ""
		}
		return p.model.Lists(path.Endpoint.Addr())
	}
	if err := p.meter.tidy(locked(p, inUse), locked(p, p.model.Serves), p.table.Forget); err != nil {
		p.log.Warn("old counters not deleted; will try again", "error", err, "after", countEvery)
	}
}

func (p *Proxy) count(f func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.stats)
	p.stats.Table = p.table.Stats()
}

// listen wakes the loop when the kernel's rules change, if it can tell.
func (p *Proxy) listen(ctx context.Context) {
	watcher, ok := p.config.Kernel.(interface {
		Watch(ctx context.Context, changed func()) error
	})
	for ok && ctx.Err() == nil {
		err := watcher.Watch(ctx, func() { notify(p.disturbed) })
		if ctx.Err() == nil {
			p.log.Error("will listen again", "error", err, "after", retryMost)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryMost):
		}
	}
}

// record counts what passes during rollouts until ctx ends. Services are served
// even while their records cannot be watched.
func (p *Proxy) record(ctx context.Context) {
	for {
		_, err := p.subscribe(ctx, &v1alpha1.RolloutRecord{}, p.recorder.handler())
		if err == nil {
			p.recorder.run(ctx)
			return
		}
		if ctx.Err() == nil {
			p.log.Error("will watch rollout records again", "error", err, "after", retryMost)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryMost):
		}
	}
}

// notify makes sure that whoever receives from c does so once more.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
