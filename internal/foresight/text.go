package foresight

import (
	"fmt"
	"strings"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// A long rollout is summed up: more waves than maxWaves are told by the first
// firstWaves and the last lastWaves of them.
const (
	maxWaves   = 8
	firstWaves = 3
	lastWaves  = 2
)

// String is the Foresight for people.
func (f Foresight) String() string {
	var b strings.Builder
	kind := "deployment"
	if f.Stateful {
		kind = "statefulset"
	}
	fmt.Fprintf(&b, "%s.apps/%s in namespace %s: %s\n", kind, f.Name, f.Namespace, f.headline())
	writeChanges(&b, f.Changes)
	if len(f.Waves) > 0 {
		fmt.Fprintf(&b, "\nStrategy: %s, %s\n  %s\n\nSteps:\n", f.Strategy.Type, replicas(f.Strategy.Replicas), f.Rounding)
		f.writeWaves(&b)
		fmt.Fprintf(&b, "\nTime: %s\n", f.Duration)
	}
	writeFindings(&b, "Blocked by", f.Blocks)
	writeFindings(&b, "Warnings", f.Warnings)
	fmt.Fprintf(&b, "\n%s\n", f.verdict())
	return b.String()
}

func (f *Foresight) headline() string {
	switch f.Kind {
	case KindFirst:
		return "it is new"
	case KindRollout:
		if f.Again > 0 {
			return fmt.Sprintf("a rollout, revision %d: the pod template is that of revision %d again", f.Revision, f.Again)
		}
		return fmt.Sprintf("a rollout, revision %d", f.Revision)
	case KindScale:
		return "no rollout: only the number of pods changes"
	case KindEdit:
		if len(f.Waves) > 0 {
			return "the pod template stays; a rollout goes on"
		}
		return "no rollout: no pod is touched"
	case KindRefused:
		return "the API server refuses the change"
	}
	if len(f.Waves) > 0 {
		return "nothing would change; a rollout is under way"
	}
	return "nothing would change"
}

func (f *Foresight) verdict() string {
	switch {
	case f.Kind == KindRefused:
		return "It cannot succeed: nothing would be changed."
	case len(f.Blocks) == 1:
		return "It cannot succeed as things are: 1 thing blocks it."
	case len(f.Blocks) > 1:
		return fmt.Sprintf("It cannot succeed as things are: %d things block it.", len(f.Blocks))
	case f.Kind == KindNone && len(f.Waves) == 0:
		return "There is nothing to do."
	}
	return "It can succeed."
}

func (f *Foresight) writeWaves(b *strings.Builder) {
	for i, w := range f.Waves {
		if n := len(f.Waves); n > maxWaves && i >= firstWaves && i < n-lastWaves {
			if i == firstWaves {
				fmt.Fprintf(b, "  …  %d more like these\n", n-firstWaves-lastWaves)
			}
			continue
		}
		fmt.Fprintf(b, "  %d. %s\n", i+1, f.wave(w))
	}
	last := f.Waves[len(f.Waves)-1]
	if f.Completes {
		fmt.Fprintf(b, "  complete: %s, all available\n", pods(last.Available))
	}
}

// wave says what is done in a wave, and what it then waits for.
func (f *Foresight) wave(w Wave) string {
	var moves []string
	for _, m := range w.Moves {
		moves = append(moves, fmt.Sprintf("%s from %d to %d", f.setName(m), m.From, m.To))
	}
	out := "scale " + strings.Join(moves, ", ")
	if w.Starting > 0 {
		verb := "are"
		if w.Starting == 1 {
			verb = "is"
		}
		out += fmt.Sprintf("; wait until %s %s available", pods(w.Starting), verb)
	} else if w.Stopping > 0 && w.Asked == 0 && f.Strategy.Replicas > 0 {
		out += fmt.Sprintf("; wait until %s stopped", have(w.Stopping))
	}
	if w.Late > 0 {
		out += fmt.Sprintf(" (%d of them must wait for the place of an old one)", w.Late)
	}
	if w.Homeless > 0 {
		out += fmt.Sprintf(" (there is no room yet for %d more)", w.Homeless)
	}
	return out
}

func have(n int32) string {
	if n == 1 {
		return "1 pod has"
	}
	return fmt.Sprintf("%d pods have", n)
}

// setName is what a set is called: new or old, and by its name where there are
// several old ones, or no new one.
func (f *Foresight) setName(m Move) string {
	old := map[string]bool{}
	for _, w := range f.Waves {
		for _, m := range w.Moves {
			if !m.New {
				old[m.Set] = true
			}
		}
	}
	switch {
	case f.Kind != KindRollout && len(old) == 0:
		return m.Set
	case m.New:
		return "new"
	case len(old) == 1:
		return "old"
	}
	return "old " + m.Set
}

// writeChanges writes a line for each changed field.
func writeChanges(b *strings.Builder, changes []v1alpha1.FieldChange) {
	for _, c := range changes {
		from, to := c.From, c.To
		if from == "" {
			from = "(not set)"
		}
		if to == "" {
			to = "(not set)"
		}
		fmt.Fprintf(b, "  %s: %s → %s\n", c.Path, from, to)
	}
}

// writeFindings writes findings under a title, if there are any.
func writeFindings(b *strings.Builder, title string, findings []Finding) {
	if len(findings) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, f := range findings {
		fmt.Fprintf(b, "  - %s\n", f.What)
		for _, line := range f.Details {
			fmt.Fprintf(b, "      %s\n", line)
		}
		if f.Field != "" {
			fmt.Fprintf(b, "    field: %s", f.Field)
			if f.Value != "" {
				fmt.Fprintf(b, " = %s", f.Value)
			}
			b.WriteByte('\n')
		}
		if f.Mend != "" {
			fmt.Fprintf(b, "    mend:  %s\n", f.Mend)
		}
	}
}

// String is the Duration in words.
func (d *Duration) String() string {
	if len(d.Pulls) > 0 {
		return d.known() + "; pulling " + strings.Join(d.Pulls, ", ") + " comes on top"
	}
	return d.known()
}

func (d *Duration) known() string {
	switch {
	case d.Total != nil:
		out := "about " + short(d.Total.Duration)
		if d.Low != nil {
			out = fmt.Sprintf("between %s and %s, as more pods started at a time then", short(d.Low.Duration), short(d.Total.Duration))
		}
		out += fmt.Sprintf(": a pod took %s to become available", short(d.Start.Duration))
		if d.Stop != nil {
			out += fmt.Sprintf(" and %s to stop", short(d.Stop.Duration))
		}
		if d.Rollouts == 1 {
			return out + " in the last rollout"
		}
		return fmt.Sprintf("%s in the last %d rollouts", out, d.Rollouts)
	case d.AtLeast.Duration > 0:
		return fmt.Sprintf("not known, as no earlier rollout is recorded; minReadySeconds alone takes %s", short(d.AtLeast.Duration))
	}
	return "not known: no earlier rollout is recorded"
}

// short rounds a duration to what matters.
func short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func replicas(n int32) string {
	if n == 1 {
		return "1 replica"
	}
	return fmt.Sprintf("%d replicas", n)
}
