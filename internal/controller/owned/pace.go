package owned

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// perPod is the time between two looks for each pod of the first. A look takes
	// about a tenth of it.
	perPod = 10 * time.Microsecond

	// few is how many pods are looked at whenever there is a reason.
	few = 100
)

// Pace spaces out the looks at an owner of many pods. Each of them can be the
// reason for a look at all: without it the work would grow as the square of their
// number. It is safe for concurrent use; its zero value is ready.
type Pace struct {
	mu   sync.Mutex
	next map[types.NamespacedName]time.Time
}

// Wait returns how long to wait with the next look at an owner; zero when it may
// be now.
func (p *Pace) Wait(owner types.NamespacedName, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, paced := p.next[owner]
	if !paced {
		return 0
	}
	if wait := next.Sub(now); wait > 0 {
		return wait
	}
	delete(p.next, owner)
	return 0
}

// Looked notes that an owner and its pods were looked at.
func (p *Pace) Looked(owner types.NamespacedName, pods int, now time.Time) {
	if pods <= few {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = map[types.NamespacedName]time.Time{}
	}
	p.next[owner] = now.Add(time.Duration(pods) * perPod)
}
