package server

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// routeLogs makes the libraries log to log.
func routeLogs(log *slog.Logger) {
	logger := logr.FromSlogHandler(quiet{log.Handler()})
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)
}

// quiet passes on what libraries warn of, and what they merely tell only where
// the log is at debug level: controller-runtime and client-go report every
// start and stop of theirs as information. Nor is it an error to them or us
// that a stream ended because its own side closed it, as each kubectl exec does.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	if level < slog.LevelWarn {
		level = slog.LevelDebug
	}
	return q.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, record slog.Record) error {
	closed := false
	record.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		closed = ok && errors.Is(err, net.ErrClosed)
		return !closed
	})
	if closed && !q.Handler.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return q.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
