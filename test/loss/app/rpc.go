package main

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"windlass.dev/windlass/test/loss/wire"
)

// rpc serves a gRPC stream of messages.
type rpc struct {
	server *grpc.Server
}

func newRPC(pace pace) *rpc {
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: wire.Service,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: wire.Method, Handler: pace.answer, ServerStreams: true}},
	}, nil)
	return &rpc{server: server}
}

// Serve implements server.
func (r *rpc) Serve(listener net.Listener) error { return r.server.Serve(listener) }

// Close implements server: GOAWAY, then the streams in hand come to their end.
func (r *rpc) Close(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.server.Stop)
	defer stop()
	r.server.GracefulStop()
	return ctx.Err()
}

func (p pace) answer(_ any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(&wrapperspb.StringValue{}); err != nil {
		return err
	}
	time.Sleep(p.slow)
	for i := range wire.Pieces(p.stream) {
		if i > 0 {
			time.Sleep(wire.PieceEvery)
		}
		if err := stream.SendMsg(wrapperspb.String(wire.Piece)); err != nil {
			return err
		}
	}
	return nil
}
