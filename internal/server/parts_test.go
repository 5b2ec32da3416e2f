package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
)

// TestPartsStopInReverse: each part has ended before the one that it stands on
// is told to, whether the end came from outside or from a part.
func TestPartsStopInReverse(t *testing.T) {
	for _, test := range []struct {
		name, fails, want string
	}{
		{"told to stop", "", "agent controllers store"},
		{"a part fails", "controllers", "controllers agent store"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var ended []string
			ready := make(chan struct{}, 3)
			broken := make(chan struct{})
			var parts []part
			for _, name := range []string{"store", "controllers", "agent"} {
				parts = append(parts, part{name, func(ctx context.Context) error {
					ready <- struct{}{}
					if name == test.fails {
						<-broken
						ended = append(ended, name)
						return errors.New("broken")
					}
					<-ctx.Done()
					ended = append(ended, name)
					return ctx.Err()
				}})
			}
			go func() {
				for range parts {
					<-ready
				}
				if test.fails == "" {
					cancel()
				}
				close(broken)
			}()
			err := runParts(ctx, slog.New(slog.DiscardHandler), parts)
			if got := strings.Join(ended, " "); got != test.want {
				t.Errorf("ended %q, want %q", got, test.want)
			}
			if want := test.fails != ""; (err != nil) != want || want && fmt.Sprint(err) != "controllers: broken" {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestPartsThatDoNotStop: one that waits for ever for what has failed does not
// keep the process from its end.
func TestPartsThatDoNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, release := errors.New("no space left"), make(chan struct{})
		defer close(release)
		err := runParts(t.Context(), slog.New(slog.DiscardHandler), []part{
			{"store", func(context.Context) error { return broken }},
			{"API", func(context.Context) error { <-release; return nil }},
		})
		if !errors.Is(err, broken) {
			t.Errorf("ended with %v, want %v", err, broken)
		}
	})
}
