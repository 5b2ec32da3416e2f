package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newZapLogger returns a logger for etcd that hands warnings and errors to log
// and turns what etcd calls fatal, after which it would end the process, into a
// failure of the store.
func newZapLogger(log *slog.Logger, failed *failure) *zap.Logger {
	hook := fatalHook{failed}
	return zap.New(slogCore{log: log}, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

type fatalHook struct{ failed *failure }

// OnWrite implements zapcore.CheckWriteHook; it does not return.
func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	h.failed.giveUp(fmt.Errorf("etcd: %s%w", entry.Message, cause(fields)))
}

// cause returns the error among a log entry's fields, with a colon before it.
func cause(fields []zapcore.Field) error {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			return fmt.Errorf(": %w", err)
		}
	}
	return errors.New("")
}

// slogCore is a zap core that writes to slog, from warnings upward.
type slogCore struct{ log *slog.Logger }

// Enabled implements zapcore.LevelEnabler.
func (c slogCore) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{log: c.log.With(attributes(fields)...)}
}

// expected says whether etcd says this at every start of a member that is new,
// alone, or listens nowhere.
func expected(message string) bool {
	for _, usual := range []string{
		"Running http and grpc server on single port",
		"simple token is not cryptographically signed",
		"Failed to detect schema version",
		"failed to update storage version",
		"cannot campaign at term",
	} {
		if strings.Contains(message, usual) {
			return true
		}
	}
	return false
}

// Check implements zapcore.Core.
func (c slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) && !expected(entry.Message) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if entry.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "etcd: "+entry.Message, attributes(fields)...)
	return nil
}

// Sync implements zapcore.Core.
func (slogCore) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	encoder := zapcore.NewMapObjectEncoder()
	var out []any
	for _, f := range fields {
		f.AddTo(encoder)
		if value, ok := encoder.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, value))
		}
	}
	return out
}
