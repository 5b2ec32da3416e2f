package agent

import (
	"context"
	"io"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// Streams are a client's ends of the standard streams of a process.
type Streams struct {
	In       io.Reader           // nil: the process reads nothing
	Out, Err io.Writer           // nil: what it writes is dropped; with TTY all goes to Out
	TTY      bool                // the process has a terminal
	Resize   <-chan TerminalSize // of the terminal; nil: never. Its sender closes it or gives up with ctx
}

// TerminalSize is the size of a terminal in characters.
type TerminalSize = remotecommand.TerminalSize

// Streamer connects clients to processes in containers.
type Streamer interface {
	// ExecStream runs a command inside a running container, connected to a
	// client's streams, and returns its exit code. A command that the container
	// does not have gives 127 and one that cannot be executed 126, with the
	// reason written to the client; other failures to start it are errors. When
	// ctx ends first, the command is hung up (its streams are closed and it gets
	// SIGHUP) and ctx's error returned.
	ExecStream(ctx context.Context, id string, command []string, streams Streams) (exitCode int, err error)

	// Attach connects a client's streams to the first process of a running
	// container, from now on, until the container or ctx ends; then it returns
	// nil. TTY is whether the container has a terminal.
	Attach(ctx context.Context, id string, streams Streams) error
}
