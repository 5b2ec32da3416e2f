package rolloutview

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// Log tells a rollout as it happens, a line for each event. It begins as the
// zero value; one Log tells of one rollout.
type Log struct {
	titled bool
	told   map[string]bool // pod and stage
	there  map[string]Pod  // and those whose end has not been told
	steps  int             // told, those omitted from the record included
	waits  string
}

// event is a line with the time that it is about.
type event struct {
	at   time.Time
	text string
}

// Next returns the lines for what has happened since it was called last.
func (l *Log) Next(r *Rollout, now time.Time) []string {
	if r.Revision == 0 || r.Record == nil && !r.Phase.Over() {
		return nil
	}
	var lines []string
	if !l.titled {
		l.titled, l.told, l.there = true, map[string]bool{}, map[string]Pod{}
		lines = append(lines, title(r))
	}
	events := l.stepEvents(r)
	events = append(events, l.podEvents(r, now)...)
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%9s  %s", offset(r, e.at), clean(e.text)))
	}
	if waits := l.waiting(r); waits != "" {
		lines = append(lines, fmt.Sprintf("%9s  %s", offset(r, now), clean(waits)))
	}
	return lines
}

func title(r *Rollout) string {
	text := fmt.Sprintf("%s revision %d", r.Deployment, r.Revision)
	if r.Cause != "" {
		text += ": " + cut(r.Cause, maxNote)
	}
	if r.By != "" {
		text += ", by " + r.By
	}
	return clean(text)
}

// offset is when something happened, from the beginning of the rollout. What is
// told in whole seconds may seem to be before it.
func offset(r *Rollout, at time.Time) string {
	return fmt.Sprintf("+%.3fs", max(0, at.Sub(r.StartedAt)).Seconds())
}

func (l *Log) stepEvents(r *Rollout) []event {
	var events []event
	omitted := 0
	if r.Record != nil {
		omitted = int(r.Record.Status.StepsOmitted)
	}
	for i, step := range r.Steps {
		if omitted+i < l.steps {
			continue
		}
		text := fmt.Sprintf("set %s  %d → %d", step.Set, step.From, step.To)
		if step.Why != "" {
			text += ": " + step.Why
		}
		events = append(events, event{step.Time.Time, text})
	}
	l.steps = max(l.steps, omitted+len(r.Steps))
	return events
}

// podEvents are those of the pods' lives: as the record tells them, which has the
// finer times, unless there is none or it has dropped some.
func (l *Log) podEvents(r *Rollout, now time.Time) []event {
	var events []event
	recorded := r.Record != nil && r.Record.Status.PodsOmitted == 0
	there := map[string]Pod{}
	for _, p := range r.Pods {
		if p.There {
			there[p.key] = p
		}
		stages := p.Stages
		if recorded {
			stages = p.Recorded
		}
		for _, stage := range stages {
			if before := stage.Name != stageDraining && stage.Name != stageStopped; before && !p.New || untold(stage.Name) {
				continue
			}
			if r.StartedAt.Sub(stage.At) > time.Second { // an earlier rollout's: the pod is used again
				continue
			}
			if !l.first(p.key + " " + stage.Name) {
				continue
			}
			text := "pod " + p.Name + "  " + stage.Name
			if stage.Name == stageScheduled && p.Node != "" {
				text += " to " + p.Node
			}
			events = append(events, event{stage.At, text})
		}
		if p.State == Failing && l.first(p.key+" "+reason(p.Note)) {
			events = append(events, event{now, "pod " + p.Name + "  " + cut(p.Note, maxNote)})
		}
	}
	for pod, p := range l.there {
		_, still := there[pod]
		switch key := pod + " " + stageStopped; {
		case still || l.told[key]:
		case recorded:
			there[pod] = p // until the record tells, or has dropped it
		case l.first(key):
			events = append(events, event{now, "pod " + p.Name + "  " + stageStopped})
		}
	}
	l.there = there
	return events
}

// untold stages are in the record, and too much for a line each.
func untold(stage string) bool {
	return stage == stageCreated || stage == stageAvailable || stage == stageUnrouted || stage == stageDrained
}

// reason is what a note is about: messages change, with each attempt.
func reason(note string) string {
	reason, _, _ := strings.Cut(note, ":")
	return reason
}

func (l *Log) first(key string) bool {
	if l.told[key] {
		return false
	}
	l.told[key] = true
	return true
}

// waiting says that the rollout is paused, or in trouble that no pod's line tells
// of, once.
func (l *Log) waiting(r *Rollout) string {
	waits := ""
	failing := slices.ContainsFunc(r.Pods, func(p Pod) bool { return p.New && p.State == Failing })
	if r.Phase == v1alpha1.RolloutPaused || r.Reason == "PodsFailing" && !r.Phase.Over() && !failing {
		waits = outcome(r.Phase) + ": " + cut(r.Message, maxNote)
	}
	if key := string(r.Phase) + r.Reason; waits == "" || l.waits == key {
		return ""
	} else {
		l.waits = key
	}
	return waits
}
