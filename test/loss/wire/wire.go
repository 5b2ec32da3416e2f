// Package wire is what the server and the clients of the loss matrix agree on.
package wire

import "time"

const (
	// Piece is one piece of an answer: a line, or a message.
	Piece = "piece"

	// PieceEvery is the time between the pieces of an answer that streams.
	PieceEvery = 100 * time.Millisecond

	// Last is the line after whose answer a plain TCP server closes; any other
	// leaves the connection open.
	Last = "last"

	// Service is the name of the gRPC service.
	Service = "windlass.test.Loss"

	// Method is the name of its one method, which answers with a stream.
	Method = "Stream"
)

// Pieces is how many pieces an answer that streams for so long has.
func Pieces(stream time.Duration) int { return 1 + int(stream/PieceEvery) }
