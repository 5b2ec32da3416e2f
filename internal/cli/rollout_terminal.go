package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"windlass.dev/windlass/internal/rolloutview"
)

// newDisplay returns a live view where output is a terminal that can show one,
// and else a log.
func newDisplay(out *os.File, plain bool) display {
	if plain || !term.IsTerminal(int(out.Fd())) || os.Getenv("TERM") == "dumb" {
		return &logDisplay{out: out}
	}
	t := &terminal{out: out, colour: os.Getenv("NO_COLOR") == "", sizes: make(chan os.Signal, 1)}
	signal.Notify(t.sizes, syscall.SIGWINCH)
	fmt.Fprint(out, enterScreen)
	return t
}

// logDisplay prints a line for each event.
type logDisplay struct {
	out *os.File
	log rolloutview.Log
}

func (d *logDisplay) show(r *rolloutview.Rollout, now time.Time) {
	printLines(d.out, d.log.Next(r, now))
}
func (d *logDisplay) resized() <-chan os.Signal { return nil }
func (d *logDisplay) close()                    {}

// What a terminal is told (ECMA-48, and xterm's alternate screen).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	goHome      = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// terminal shows each look on the whole screen.
type terminal struct {
	out    *os.File
	colour bool
	sizes  chan os.Signal
}

func (t *terminal) show(r *rolloutview.Rollout, now time.Time) {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	var b bytes.Buffer
	b.WriteString(goHome)
	for i, line := range rolloutview.Screen(r, width, height, now) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line.Render(width, t.colour) + clearLine)
	}
	b.WriteString(clearBelow)
	_, _ = t.out.Write(b.Bytes()) // a terminal that is gone ends the process by a signal
}

func (t *terminal) resized() <-chan os.Signal { return t.sizes }

func (t *terminal) close() {
	signal.Stop(t.sizes)
	fmt.Fprint(t.out, leaveScreen)
}
