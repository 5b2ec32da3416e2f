package controllertest

import (
	"errors"
	"sync"

	"pgregory.net/rapid"
)

// ErrLost is what a writer sees of a write whose answer does not arrive.
var ErrLost = errors.New("connection lost")

// fate is what becomes of a write.
type fate int

const (
	succeeds fate = iota
	arrives       // but the answer is lost
	lost
	dies // with the process: nothing that it does afterwards arrives
)

// Fates decide what becomes of the writes of a process under test, which is alive
// at first. They are safe for concurrent use; the zero value lets all succeed.
type Fates struct {
	mu   sync.Mutex
	next []fate
	dead bool
}

// Draw has a test choose what becomes of the next writes.
func (f *Fates) Draw(t *rapid.T) {
	f.next = nil
	if rapid.Bool().Draw(t, "all well") {
		return
	}
	for range rapid.IntRange(1, 6).Draw(t, "fates") {
		f.next = append(f.next, fate(rapid.IntRange(0, int(dies)).Draw(t, "fate")))
	}
}

// Calm lets all writes succeed from now on, of a process that is alive again.
func (f *Fates) Calm() { f.next, f.dead = nil, false }

// Write does something as its fate has it, one at a time. It returns ErrLost where
// the answer does not arrive.
func (f *Fates) Write(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := succeeds
	if len(f.next) > 0 {
		next, f.next = f.next[0], f.next[1:]
	}
	f.dead = f.dead || next == dies
	if f.dead || next == lost {
		return ErrLost
	}
	err := do()
	if next == arrives {
		return ErrLost
	}
	return err
}
