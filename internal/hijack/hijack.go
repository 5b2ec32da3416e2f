// Package hijack watches connections that a handler takes over from its server,
// as those that stream do: net/http then no longer tells when a client is gone.
package hijack

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
)

// Writer is a response whose connection, once it is taken over, is closed when
// Context ends. When its client has gone, or it was closed, Lost is called.
type Writer struct {
	http.ResponseWriter
	Context context.Context
	Lost    func()
}

// Hijack implements http.Hijacker.
func (w Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := buffer.Peek(buffer.Reader.Buffered())
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	context.AfterFunc(w.Context, func() { _ = conn.Close() })
	watched := &watchedConn{Conn: conn, chunks: make(chan []byte, ahead)}
	go watched.read(w.Context, w.Lost)
	reader := bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(early)), watched))
	return watched, bufio.NewReadWriter(reader, buffer.Writer), nil
}

// A watched connection is read ahead of its reader, so far in chunks of this size
// in bytes: who speaks SPDY reads no more once the other side has said that it
// goes away, and so does not see it go.
const (
	ahead     = 8
	chunkSize = 16 << 10
)

// watchedConn is a connection that is read ahead.
type watchedConn struct {
	net.Conn
	chunks chan []byte // closed at the end
	err    error       // of the end
	chunk  []byte      // what is left of the one being read
}

// read reads the connection until it fails or ctx ends.
func (c *watchedConn) read(ctx context.Context, lost func()) {
	defer lost()
	defer close(c.chunks)
	for {
		chunk := make([]byte, chunkSize)
		n, err := c.Conn.Read(chunk)
		if n > 0 {
			select {
			case c.chunks <- chunk[:n]:
			case <-ctx.Done():
				c.err = io.EOF
				return
			}
		}
		if err != nil {
			c.err = err
			return
		}
	}
}

// Read implements net.Conn. One goroutine may read.
func (c *watchedConn) Read(p []byte) (int, error) {
	if len(c.chunk) == 0 {
		chunk, more := <-c.chunks
		if !more {
			return 0, c.err
		}
		c.chunk = chunk
	}
	n := copy(p, c.chunk)
	c.chunk = c.chunk[n:]
	return n, nil
}
