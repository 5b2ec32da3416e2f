package rolloutview

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// Style is how a text looks where colours are shown. What it means is always in
// the text too.
type Style int

// The styles.
const (
	Plain Style = iota
	Bold
	Faint
	New
	Old
	Busy
	Bad
)

var escapes = map[Style]string{Bold: "1", Faint: "2", New: "32", Old: "34", Busy: "33", Bad: "31"}

// Span is a text in one style.
type Span struct {
	Text  string
	Style Style
}

// Line is one line of a screen.
type Line []Span

func plain(format string, args ...any) Line { return Line{{fmt.Sprintf(format, args...), Plain}} }

// Render returns the line cut to a width in characters, with the escape
// sequences of its styles if colour is set. Control characters are made visible:
// nothing that the API tells can steer the terminal.
func (l Line) Render(width int, colour bool) string {
	var b strings.Builder
	for _, span := range l {
		text := clean(span.Text)
		runes := []rune(text)
		if len(runes) > width {
			runes = append(runes[:max(0, width-1)], []rune("…")[:min(1, width)]...)
		}
		width -= len(runes)
		if len(runes) == 0 {
			continue
		}
		if escape := escapes[span.Style]; colour && escape != "" {
			fmt.Fprintf(&b, "\x1b[%sm%s\x1b[0m", escape, string(runes))
		} else {
			b.WriteString(string(runes))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// clean makes one line without control characters of a text.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			return '�'
		}
		return r
	}, text)
}

// What is printed of long texts, in characters.
const (
	maxNote  = 160
	maxCause = 60 // in a table
)

func cut(text string, limit int) string {
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return text
}

// span is a duration as people read it: 12ms, 1.2s, 34s, 5m3s.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// grouped is a number with its thousands apart: 12,934.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// traffic is what was counted, as a sentence.
func traffic(t v1alpha1.TrafficCount, counted bool) string {
	if !counted {
		return "no traffic was counted"
	}
	noun := "connections"
	if t.Connections == 1 {
		noun = "connection"
	}
	return fmt.Sprintf("%s %s, %s refused, %s reset", grouped(t.Connections), noun, grouped(t.Refused), grouped(t.Reset))
}

// outcome is a phase as a word in a sentence.
func outcome(phase v1alpha1.RolloutPhase) string {
	switch phase {
	case v1alpha1.RolloutRolledBack:
		return "rolled back"
	case "":
		return "unknown"
	}
	return strings.ToLower(string(phase))
}
