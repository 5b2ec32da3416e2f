package main

import (
	"context"
	"sync"
)

// connections are those that a server has to end by itself.
type connections struct {
	mu    sync.Mutex
	open  map[*func()]bool
	ended bool
	left  sync.WaitGroup
}

func newConnections() *connections { return &connections{open: map[*func()]bool{}} }

// add notes a connection and how its end is announced to the peer; it returns
// what to call when it is gone.
func (c *connections) add(announce func()) (gone func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[&announce] = true
	c.left.Add(1)
	if c.ended {
		go announce()
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, &announce)
		c.left.Done()
	}
}

// end announces the end on every connection, those still to come as well.
func (c *connections) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for announce := range c.open {
		go (*announce)()
	}
}

// wait returns when all are gone, or ctx ends.
func (c *connections) wait(ctx context.Context) {
	gone := make(chan struct{})
	go func() {
		c.left.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
	}
}
