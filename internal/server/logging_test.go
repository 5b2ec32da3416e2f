package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

// TestQuiet checks what of the libraries' logs comes through.
func TestQuiet(t *testing.T) {
	tell := func(level slog.Level) string {
		var out bytes.Buffer
		log := logr.FromSlogHandler(quiet{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})})
		log.Info("started")
		log.Error(errors.New("broken"), "failed")
		log.Error(fmt.Errorf("read: %w", net.ErrClosed), "ended")
		var messages []string
		for line := range strings.Lines(out.String()) {
			_, message, _ := strings.Cut(line, "msg=")
			message, _, _ = strings.Cut(message, " ")
			messages = append(messages, strings.TrimSpace(message))
		}
		return strings.Join(messages, " ")
	}
	if got := tell(slog.LevelInfo); got != "failed" {
		t.Errorf("at level info the log tells %q, want failed alone", got)
	}
	if got := tell(slog.LevelDebug); got != "started failed ended" {
		t.Errorf("at level debug the log tells %q, want everything", got)
	}
}
