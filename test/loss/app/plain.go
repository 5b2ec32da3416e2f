package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"windlass.dev/windlass/test/loss/wire"
)

// plain answers each line with a line, on TCP and nothing above it. After the
// line wire.Last it closes.
type plain struct {
	pace     pace
	sockets  *connections
	listener chan net.Listener
}

func newPlain(pace pace) *plain {
	return &plain{pace: pace, sockets: newConnections(), listener: make(chan net.Listener, 1)}
}

// Serve implements server.
func (p *plain) Serve(listener net.Listener) error {
	p.listener <- listener
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go p.talk(connection.(*net.TCPConn))
	}
}

// Close implements server: it sends FIN after the answer in hand, and reads on
// until the peer has closed too, so that nothing is reset.
func (p *plain) Close(ctx context.Context) error {
	var err error
	select {
	case listener := <-p.listener:
		err = listener.Close()
	default:
		err = errors.New("it has not listened")
	}
	p.sockets.end()
	p.sockets.wait(ctx)
	return err
}

func (p *plain) talk(connection *net.TCPConn) {
	var mu sync.Mutex
	closed := false
	finish := func() {
		mu.Lock()
		defer mu.Unlock()
		closed = true
		_ = connection.CloseWrite()
	}
	defer p.sockets.add(finish)()
	defer connection.Close()
	for lines := bufio.NewScanner(connection); lines.Scan(); {
		mu.Lock()
		var err error
		if !closed {
			time.Sleep(p.pace.slow)
			_, err = connection.Write([]byte(wire.Piece + "\n"))
		}
		mu.Unlock()
		if err != nil {
			return
		}
		if lines.Text() == wire.Last {
			finish()
		}
	}
}
