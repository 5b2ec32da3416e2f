package server

import (
	"errors"
	"strings"
	"sync"
)

// progress is which parts have begun their work; the server is ready when none
// is awaited.
type progress struct {
	mu      sync.Mutex
	awaited []string
	begun   bool // the list of what is awaited is complete
}

// expect names a part that must have begun before the server is ready.
func (p *progress) expect(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited = append(p.awaited, name)
	p.begun = true
}

// reached says that a part has begun.
func (p *progress) reached(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, awaited := range p.awaited {
		if awaited == name {
			p.awaited = append(p.awaited[:i], p.awaited[i+1:]...)
			return
		}
	}
}

// ready returns an error that names the parts that are awaited.
func (p *progress) ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		return errors.New("parts are being made")
	}
	if len(p.awaited) > 0 {
		return errors.New("not begun yet: " + strings.Join(p.awaited, ", "))
	}
	return nil
}
