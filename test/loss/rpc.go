package loss

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"windlass.dev/windlass/test/loss/wire"
)

// rpcAsker asks for a gRPC stream of messages. The library sends a stream
// again by itself only where the server has said that it never saw it.
type rpcAsker struct {
	address string
	keep    bool
	stream  time.Duration

	connection *grpc.ClientConn
	answered   bool // on this connection, though maybe on an earlier transport of it
}

// ask implements asker.
func (r *rpcAsker) ask(ctx context.Context) error {
	if r.connection == nil {
		connection, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
		if err != nil {
			return err
		}
		r.connection, r.answered = connection, false
	}
	messages, err := r.receive(ctx)
	if !r.keep {
		r.close()
	}
	if err == nil && messages != wire.Pieces(r.stream) {
		err = fmt.Errorf("a stream of %d messages, want %d", messages, wire.Pieces(r.stream))
	}
	if err != nil && r.answered && messages == 0 && !strings.Contains(err.Error(), "Error while dialing") {
		return crossed{err}
	}
	r.answered = r.answered || err == nil
	return err
}

// receive returns how many messages came, and nil when the stream ended well.
func (r *rpcAsker) receive(ctx context.Context) (messages int, err error) {
	stream, err := r.connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+wire.Service+"/"+wire.Method)
	if err != nil {
		return 0, err
	}
	if err := stream.SendMsg(wrapperspb.String(wire.Piece)); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if err := stream.CloseSend(); err != nil {
		return 0, err
	}
	for {
		switch err := stream.RecvMsg(&wrapperspb.StringValue{}); {
		case errors.Is(err, io.EOF):
			return messages, nil
		case err != nil:
			return messages, err
		}
		messages++
	}
}

// close implements asker.
func (r *rpcAsker) close() {
	if r.connection != nil {
		_ = r.connection.Close()
		r.connection = nil
	}
}
