// Command app is the server that the loss matrix rolls. It speaks one of four
// protocols, and the environment says how it behaves:
//
//	PROTOCOL  "http" (HTTP/1.1, HTTP/2 without TLS, and WebSocket at /ws), "grpc" or "tcp"
//	END       what it does on SIGTERM: "exit" at once, in the middle of whatever it does;
//	          "close" its connections in good order, each after the answer it is at;
//	          "linger": serve for 5 s, asking clients to close, then "close"
//	STARTUP   how long it takes before it listens (a Go duration)
//	SLOW      how long it takes to answer
//	STREAM    how long an answer takes from its first byte to its last
//
// It listens on port 80 and needs no files.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	lingerTime  = 5 * time.Second
	closeAtMost = 25 * time.Second
)

// server is one protocol.
type server interface {
	// Serve answers until the listener is closed.
	Serve(listener net.Listener) error

	// Close ends all connections in the protocol's good order, each after the
	// answer it is at, and returns when that is done or ctx ends.
	Close(ctx context.Context) error
}

// pace is how an answer is given.
type pace struct {
	slow, stream time.Duration
	leaving      *atomic.Bool // ask clients to close
}

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	pace := pace{slow: duration("SLOW"), stream: duration("STREAM"), leaving: &atomic.Bool{}}
	var server server
	switch protocol := os.Getenv("PROTOCOL"); protocol {
	case "", "http":
		server = newWeb(pace)
	case "grpc":
		server = newRPC(pace)
	case "tcp":
		server = newPlain(pace)
	default:
		log.Fatalf("PROTOCOL %q is not known", protocol)
	}
	go serve(server)
	<-signals
	end(server, os.Getenv("END"), pace)
}

func serve(server server) {
	time.Sleep(duration("STARTUP"))
	listener, err := net.Listen("tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	log.Print("end of serving: ", server.Serve(listener))
}

func end(server server, how string, pace pace) {
	switch how {
	case "", "exit":
		return
	case "linger":
		pace.leaving.Store(true)
		time.Sleep(lingerTime)
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeAtMost)
	defer cancel()
	if err := server.Close(ctx); err != nil {
		log.Print("close: ", err)
	}
}

// duration reads a Go duration from the environment; unset is zero.
func duration(name string) time.Duration {
	text := os.Getenv(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	return d
}
