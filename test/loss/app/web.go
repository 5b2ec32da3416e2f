package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"windlass.dev/windlass/test/loss/wire"
)

// web serves HTTP/1.1, HTTP/2 without TLS, and WebSocket.
type web struct {
	pace     pace
	http     *http.Server
	upgrader websocket.Upgrader
	sockets  *connections
}

func newWeb(pace pace) *web {
	w := &web{pace: pace, sockets: newConnections()}
	mux := http.NewServeMux()
	mux.HandleFunc("/", w.answer)
	mux.HandleFunc("/ws", w.echo)
	w.http = &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	w.http.Protocols.SetHTTP1(true)
	w.http.Protocols.SetUnencryptedHTTP2(true)
	return w
}

// Serve implements server.
func (w *web) Serve(listener net.Listener) error { return w.http.Serve(listener) }

// Close implements server: Shutdown closes idle connections, and others after
// their answer (HTTP/2: GOAWAY); it knows nothing of WebSockets.
func (w *web) Close(ctx context.Context) error {
	w.sockets.end()
	err := w.http.Shutdown(ctx)
	w.sockets.wait(ctx)
	return err
}

func (w *web) answer(to http.ResponseWriter, r *http.Request) {
	if w.pace.leaving.Load() && r.ProtoMajor == 1 {
		to.Header().Set("Connection", "close")
	}
	time.Sleep(w.pace.slow)
	pieces := wire.Pieces(w.pace.stream)
	for i := range pieces {
		if i > 0 {
			time.Sleep(wire.PieceEvery)
		}
		fmt.Fprintln(to, wire.Piece)
		if pieces > 1 {
			_ = http.NewResponseController(to).Flush()
		}
	}
}

// echo sends each message back. On its end it says so with a close frame.
func (w *web) echo(to http.ResponseWriter, r *http.Request) {
	socket, err := w.upgrader.Upgrade(to, r, nil)
	if err != nil {
		return
	}
	var mu sync.Mutex
	closed := false
	defer w.sockets.add(func() {
		mu.Lock()
		defer mu.Unlock()
		closed = true
		_ = socket.WriteControl(websocket.CloseMessage,
			websocket.FormatCloseMessage(websocket.CloseGoingAway, "the server ends"), time.Now().Add(time.Second))
	})()
	defer socket.Close()
	for {
		kind, message, err := socket.ReadMessage()
		if err != nil {
			return
		}
		mu.Lock()
		if !closed {
			time.Sleep(w.pace.slow)
			err = socket.WriteMessage(kind, message)
		}
		mu.Unlock()
		if err != nil {
			return
		}
	}
}
