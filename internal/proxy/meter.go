package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// countEvery is how often the counters are read when nobody asks for them.
const countEvery = 30 * time.Second

// meter reads the counters and keeps their sums by Service. It is safe for
// concurrent use.
type meter struct {
	counters Counters
	owner    func(way netip.AddrPort) string

	mu     sync.Mutex
	ledger *ledger
}

func newMeter(counters Counters, owner func(way netip.AddrPort) string) *meter {
	return &meter{counters: counters, owner: owner, ledger: newLedger()}
}

// read returns what was counted so far at each Service, by namespace/name.
func (m *meter) read() (map[string]v1alpha1.TrafficCount, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts, err := m.counters.Counts()
	if err != nil {
		return nil, fmt.Errorf("read traffic counters: %w", err)
	}
	m.ledger.read(counts, m.owner, time.Now())
	return maps.Clone(m.ledger.sums), nil
}

// tidy has forget delete the counters that no Service needs any more, as of the
// last reading, and forgets the sums of Services that are no more.
func (m *meter) tidy(inUse func(Path) bool, exists func(service string) bool, forget func([]Element) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger.drop(exists)
	stale := m.ledger.stale(inUse, time.Now())
	if err := forget(stale); err != nil {
		return err
	}
	m.ledger.forgotten(stale)
	return nil
}

// run reads now and then until ctx ends, and says so each time.
func (m *meter) run(ctx context.Context, read func(), log *slog.Logger) {
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := m.read(); err != nil {
			log.Error("will read again", "error", err, "after", countEvery)
			continue
		}
		read()
	}
}
