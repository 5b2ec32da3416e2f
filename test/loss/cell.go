package loss

import (
	"fmt"
	"strings"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// Protocol is what application and client speak.
type Protocol string

// The protocols.
const (
	HTTP1     Protocol = "HTTP/1.1"
	HTTP2     Protocol = "HTTP/2"
	GRPC      Protocol = "gRPC stream"
	WebSocket Protocol = "WebSocket"
	TCP       Protocol = "TCP"
)

// Ending is what the application does on SIGTERM, as the app's END.
type Ending string

// The endings.
const (
	Exits   Ending = "exit"
	Closes  Ending = "close"
	Lingers Ending = "linger"
)

// Client is how the clients use connections.
type Client string

// The clients.
const (
	EachNew  Client = "a connection for each request"
	Kept     Client = "16 kept connections"
	Thousand Client = "1,000 kept connections"
)

// Cell is one application with one kind of client.
type Cell struct {
	Protocol Protocol
	Ending   Ending
	Client   Client

	Startup time.Duration // until it listens
	Slow    time.Duration // until it answers
	Stream  time.Duration // from the first byte of an answer to its last

	// Drain is the value of windlass.dev/drain, "" for the default.
	Drain string
	// DrainTimeout is the value of windlass.dev/drain-timeout, "" for the default.
	DrainTimeout string
}

// Application says in words what is rolled.
func (c Cell) Application() string {
	words := []string{string(c.Protocol)}
	switch c.Ending {
	case Exits:
		words = append(words, "exits at once")
	case Closes:
		words = append(words, map[Protocol]string{
			HTTP1: "closes in order (Shutdown)", HTTP2: "closes in order (GOAWAY)", GRPC: "closes in order (GOAWAY)",
			WebSocket: "closes in order (close frame)", TCP: "closes in order (FIN)",
		}[c.Protocol])
	case Lingers:
		words = append(words, "serves on for 5 s, then closes in order")
	}
	for _, more := range []struct {
		format string
		time   time.Duration
	}{{"needs %v to listen", c.Startup}, {"answers after %v", c.Slow}, {"streams for %v", c.Stream}} {
		if more.time > 0 {
			words = append(words, fmt.Sprintf(more.format, more.time))
		}
	}
	if c.Drain != "" {
		words = append(words, "`drain: "+c.Drain+"`")
	}
	if c.DrainTimeout != "" {
		words = append(words, "`drain-timeout: "+c.DrainTimeout+"`")
	}
	return strings.Join(words, ", ")
}

// Zero says whether a drained rollout must lose nothing: the client opens a
// connection for each request, or the application closes its connections in
// good order. It may lose where the answer streams and the application exits at
// once: between two pieces the kernel cannot tell that more is to come, unless
// every open connection counts as busy.
func (c Cell) Zero() bool {
	return c.Ending != Exits || c.Client == EachNew && (c.Stream == 0 || c.Drain == v1alpha1.DrainConnections)
}

// Matrix is every cell.
func Matrix() []Cell {
	const slow, stream, startup = 2 * time.Second, 10 * time.Second, 3 * time.Second
	return []Cell{
		{Protocol: HTTP1, Ending: Exits, Client: EachNew},
		{Protocol: HTTP1, Ending: Exits, Client: Kept},
		{Protocol: HTTP1, Ending: Exits, Client: Thousand},
		{Protocol: HTTP1, Ending: Closes, Client: EachNew},
		{Protocol: HTTP1, Ending: Closes, Client: Kept},
		{Protocol: HTTP1, Ending: Closes, Client: Thousand},
		{Protocol: HTTP1, Ending: Lingers, Client: EachNew},
		{Protocol: HTTP1, Ending: Lingers, Client: Kept},
		{Protocol: HTTP1, Ending: Lingers, Client: Thousand},
		{Protocol: HTTP1, Ending: Exits, Client: EachNew, Startup: startup},
		{Protocol: HTTP1, Ending: Closes, Client: Kept, Startup: startup},
		{Protocol: HTTP1, Ending: Exits, Client: EachNew, Slow: slow},
		{Protocol: HTTP1, Ending: Exits, Client: Kept, Slow: slow},
		{Protocol: HTTP1, Ending: Closes, Client: Kept, Slow: slow, DrainTimeout: "10s"},
		{Protocol: HTTP1, Ending: Exits, Client: EachNew, Stream: stream},
		{Protocol: HTTP1, Ending: Exits, Client: EachNew, Stream: stream, Drain: v1alpha1.DrainConnections},
		{Protocol: HTTP1, Ending: Closes, Client: EachNew, Stream: stream},
		{Protocol: HTTP1, Ending: Closes, Client: Kept, Stream: stream},

		{Protocol: HTTP2, Ending: Exits, Client: EachNew},
		{Protocol: HTTP2, Ending: Exits, Client: Kept},
		{Protocol: HTTP2, Ending: Closes, Client: EachNew},
		{Protocol: HTTP2, Ending: Closes, Client: Kept},
		{Protocol: HTTP2, Ending: Closes, Client: Thousand},
		{Protocol: HTTP2, Ending: Closes, Client: Kept, Slow: slow, DrainTimeout: "10s"},
		{Protocol: HTTP2, Ending: Closes, Client: Kept, Stream: stream},

		{Protocol: GRPC, Ending: Exits, Client: EachNew, Stream: slow},
		{Protocol: GRPC, Ending: Exits, Client: EachNew, Stream: slow, Drain: v1alpha1.DrainConnections},
		{Protocol: GRPC, Ending: Exits, Client: Kept, Stream: slow},
		{Protocol: GRPC, Ending: Closes, Client: EachNew, Stream: slow},
		{Protocol: GRPC, Ending: Closes, Client: Kept, Stream: slow},

		{Protocol: WebSocket, Ending: Exits, Client: EachNew},
		{Protocol: WebSocket, Ending: Exits, Client: Kept},
		{Protocol: WebSocket, Ending: Closes, Client: EachNew},
		{Protocol: WebSocket, Ending: Closes, Client: Kept},
		{Protocol: WebSocket, Ending: Closes, Client: Thousand},

		{Protocol: TCP, Ending: Exits, Client: EachNew},
		{Protocol: TCP, Ending: Exits, Client: Kept},
		{Protocol: TCP, Ending: Closes, Client: EachNew},
		{Protocol: TCP, Ending: Closes, Client: Kept},
		{Protocol: TCP, Ending: Closes, Client: Thousand},
	}
}
