package server

import (
	"context"
	"log/slog"

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
// start and stop of theirs as information.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	if level < slog.LevelWarn {
		level = slog.LevelDebug
	}
	return q.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
