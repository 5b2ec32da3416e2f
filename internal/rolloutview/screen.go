package rolloutview

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"windlass.dev/windlass/api/v1alpha1"
)

// gridFrom is the number of pods from which each is a cell and not a line.
const gridFrom = 40

// Screen returns the live view of a rollout for a terminal of a size in
// characters: never more lines than height.
func Screen(r *Rollout, width, height int, now time.Time) []Line {
	lines := header(r, width)
	var there []Pod
	for _, p := range r.Pods {
		if p.There && !(p.State == Stopped && !p.New) {
			there = append(there, p)
		}
	}
	lines = append(lines, Line{})
	room := height - len(lines)
	if len(there) >= gridFrom {
		lines = append(lines, grid(there, width, room)...)
	} else {
		lines = append(lines, table(there, room, now)...)
	}
	return lines[:min(len(lines), max(height, 0))]
}

// podsStarting is the reason of a rollout that waits for nothing but its new pods,
// as the line of the pods tells.
const podsStarting = "PodsStarting"

func header(r *Rollout, width int) []Line {
	title := Line{{r.Deployment, Bold}}
	if r.Revision > 0 {
		title = append(title, Span{fmt.Sprintf("  revision %d", r.Revision), Plain})
	}
	if r.From > 0 {
		title = append(title, Span{fmt.Sprintf(" (from %d)", r.From), Plain})
	}
	title = append(title, Span{"  " + outcome(r.Phase), phaseStyle(r.Phase)})
	lines := []Line{title}
	if r.Cause != "" {
		lines = append(lines, plain("cause    %s", r.Cause))
	}
	if r.By != "" {
		lines = append(lines, plain("by       %s", r.By))
	}
	lines = append(lines, append(Line{{"pods     ", Plain}}, progress(r, width)...))
	if r.Record != nil {
		style := Plain
		if r.Traffic.Refused+r.Traffic.Reset > 0 {
			style = Bad
		}
		lines = append(lines, Line{{"traffic  ", Plain}, {traffic(r.Traffic, r.Counted), style}})
	}
	if r.Message != "" && r.Phase != v1alpha1.RolloutCompleted && r.Reason != podsStarting {
		label := "waiting  "
		if r.Phase.Over() {
			label = "why      "
		}
		lines = append(lines, Line{{label, Plain}, {r.Message, phaseStyle(r.Phase)}})
	}
	return lines
}

func phaseStyle(phase v1alpha1.RolloutPhase) Style {
	switch phase {
	case v1alpha1.RolloutCompleted:
		return New
	case v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack:
		return Bad
	case v1alpha1.RolloutPaused, v1alpha1.RolloutSuperseded:
		return Busy
	}
	return Plain
}

// progress is the bar, the numbers beside it and the time.
func progress(r *Rollout, width int) Line {
	done := 1.0
	if r.Wanted > 0 {
		done = float64(min(r.Available, r.Wanted)) / float64(r.Wanted)
	}
	text := fmt.Sprintf(" %d of %d new", r.Available, r.Wanted)
	if r.Old > 0 {
		text += fmt.Sprintf(", %d old", r.Old)
	}
	text += "  " + span(r.Took)
	if r.Left >= 0 {
		text += ", about " + span(r.Left) + " left"
	}
	cells := min(40, width-utf8.RuneCountInString(text)-len("pods     []"))
	if cells < 5 {
		return Line{{strings.TrimSpace(text), Plain}}
	}
	full := int(done * float64(cells))
	return Line{{"[", Plain}, {strings.Repeat("#", full), New}, {strings.Repeat("-", cells-full), Faint}, {"]", Plain}, {text, Plain}}
}

// table is a line for each pod.
func table(pods []Pod, room int, now time.Time) []Line {
	names, nodes := len("POD"), len("NODE")
	for _, p := range pods {
		names, nodes = max(names, utf8.RuneCountInString(p.Name)), max(nodes, utf8.RuneCountInString(p.Node))
	}
	nodes = min(nodes, 24)
	lines := []Line{{{fmt.Sprintf("%-*s  %-*s  %-4s %-16s %-8s  %s", names, "POD", nodes, "NODE", "SIDE", "STATE", "RESTARTS", "STAGES"), Faint}}}
	for i, p := range pods {
		if len(lines) == room-1 && i < len(pods)-1 {
			return append(lines, more(len(pods)-i))
		}
		side, style := "old", Old
		if p.New {
			side, style = "new", New
		}
		look := p.look()
		word := look.word
		if !p.New && p.State <= Serving {
			word = looks[p.State].word
		}
		lines = append(lines, Line{
			{fmt.Sprintf("%-*s  %-*.*s  ", names, p.Name, nodes, nodes, p.Node), Plain},
			{fmt.Sprintf("%-4s ", side), style},
			{fmt.Sprintf("%-16s ", word), look.style},
			{fmt.Sprintf("%8d  ", p.Restarts), Plain},
			{p.story(now), Faint},
		})
	}
	return lines
}

// story says how long the stages of the pod's life took, or what is wrong.
func (p *Pod) story(now time.Time) string {
	if p.Note != "" && p.State != Serving {
		return p.Note
	}
	if p.State >= Draining || !p.New {
		return p.passage([]string{stageDraining, stageUnrouted, stageDrained, stageStopped}, now)
	}
	return p.passage([]string{stageCreated, stageScheduled, stageImage, stageStarted, stageReady}, now)
}

// passage is how long the pod took from each stage to the next that it reached,
// and how long it has been in the last.
func (p *Pod) passage(names []string, now time.Time) string {
	var parts []string
	var last time.Time
	for _, name := range names {
		at := p.reached(name)
		if at.IsZero() {
			continue
		}
		if !last.IsZero() {
			parts = append(parts, strings.TrimSuffix(name, " ready")+" "+span(max(0, at.Sub(last))))
		}
		last = at
	}
	if !last.IsZero() && p.State != Serving {
		parts = append(parts, "for "+span(max(0, now.Sub(last))))
	}
	return strings.Join(parts, ", ")
}

// grid is a cell for each pod, and what the letters mean.
func grid(pods []Pod, width, room int) []Line {
	gap := " "
	if perLine := max(1, (width+1)/2); (len(pods)+perLine-1)/perLine > room-4 {
		gap = ""
	}
	perLine := max(1, width)
	if gap != "" {
		perLine = max(1, (width+1)/2)
	}
	var lines []Line
	for i := 0; i < len(pods); i += perLine {
		if len(lines) >= room-4 && i+perLine < len(pods) {
			lines = append(lines, more(len(pods)-i))
			break
		}
		var line Line
		for _, p := range pods[i:min(len(pods), i+perLine)] {
			look := p.look()
			line = append(line, Span{look.letter + gap, look.style})
		}
		lines = append(lines, join(line))
	}
	return append(append(lines, Line{}), legend(pods, width)...)
}

// join makes one span of neighbours of the same style.
func join(line Line) Line {
	var joined Line
	for _, s := range line {
		if n := len(joined); n > 0 && joined[n-1].Style == s.Style {
			joined[n-1].Text += s.Text
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// legend counts the pods by what their letters mean.
func legend(pods []Pod, width int) []Line {
	counts := map[look]int{}
	for i := range pods {
		counts[pods[i].look()]++
	}
	var lines []Line
	left := 0
	for _, l := range []look{looks[Serving], looks[Ready], looks[Starting], looks[Preparing], looks[Unscheduled], looks[Failing], looks[Draining], looks[Stopped], {"o", "old", Old}} {
		n := counts[l]
		if n == 0 {
			continue
		}
		text := fmt.Sprintf(" %s %d   ", l.word, n)
		if left -= len(text) + 1; left < 0 || len(lines) == 0 {
			lines, left = append(lines, Line{}), width-len(text)-1
		}
		last := len(lines) - 1
		lines[last] = append(lines[last], Span{l.letter, l.style}, Span{text, Plain})
	}
	return lines
}

func more(n int) Line { return Line{{fmt.Sprintf("… and %s more", grouped(int64(n))), Faint}} }
