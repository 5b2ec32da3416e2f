package loss

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	askAtMost  = 20 * time.Second // one request, with its connection
	repeats    = 3                // of one request
	fewClients = 16

	// Between the requests of each client.
	pauseNew      = 10 * time.Millisecond
	pauseKept     = 50 * time.Millisecond
	pauseThousand = 2 * time.Second
)

// asker is one client, with one connection or none at a time.
type asker interface {
	// ask sends a request and waits for the whole answer. The error is a crossed
	// when the connection had answered before and this answer never began.
	ask(ctx context.Context) error

	// close gives the connection back.
	close()
}

// load is traffic that runs.
type load struct {
	tally
	cancel  context.CancelFunc
	clients sync.WaitGroup
	number  int
}

// startLoad begins the cell's traffic to address; stop ends it, or ctx.
func startLoad(ctx context.Context, cell Cell, address string) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel, number: fewClients}
	pause := pauseNew
	switch cell.Client {
	case Kept:
		pause = pauseKept
	case Thousand:
		l.number, pause = 1000, pauseThousand
	}
	for i := range l.number {
		l.clients.Go(func() {
			// Spread over the pause, so that not all ask at once.
			l.client(ctx, newAsker(cell, address), pause*time.Duration(i)/time.Duration(l.number), pause)
		})
	}
	return l
}

// stop lets each client finish the request it is at and returns what came of all.
func (l *load) stop() Tally {
	l.cancel()
	l.clients.Wait()
	return l.total
}

func (l *load) client(ctx context.Context, asker asker, first, pause time.Duration) {
	defer asker.close()
	for wait := first; ; wait = pause {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		l.request(asker)
	}
}

func (l *load) request(asker asker) {
	// Not the load's context: a request that has begun is brought to its end.
	ctx, cancel := context.WithTimeout(context.Background(), askAtMost)
	defer cancel()
	for attempt := 0; ; attempt++ {
		err := asker.ask(ctx)
		if errors.As(err, &crossed{}) && attempt < repeats {
			l.again(err)
			continue
		}
		l.done(err)
		return
	}
}

func newAsker(cell Cell, address string) asker {
	keep := cell.Client != EachNew
	switch cell.Protocol {
	case HTTP1, HTTP2:
		return newHTTP(cell, address, keep)
	case GRPC:
		return &rpcAsker{address: address, keep: keep, stream: cell.Stream}
	case WebSocket:
		return &lineAsker{dial: dialWebSocket, address: address, keep: keep}
	}
	return &lineAsker{dial: dialTCP, address: address, keep: keep}
}
