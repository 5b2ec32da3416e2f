package columns

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/duration"

	"windlass.dev/windlass/api/v1alpha1"
)

var rolloutRecords = tableOf(rolloutRecordCells,
	nameColumn,
	text("Target", "What was rolled out, as kind/name."),
	number("Revision", "The number of the rollout, counted from 1 for each target."),
	text("Cause", "Why: in the user's words, else computed from what changed."),
	text("Status", "Where the rollout is, and why when that is not plain."),
	text("Pods", "Pods of the new side, of the active pods of both."),
	text("Connections", "New connections to the pods while the rollout ran."),
	text("Refused", "New connections that were refused while the rollout ran."),
	text("Reset", "Connections that the server's side reset while the rollout ran."),
	text("Duration", "How long the rollout took, or has taken so far."),
	ageColumn,
	wide(text("By", "Who made the change.")),
	wide(text("From", "Images of the containers before.")),
	wide(text("To", "Images of the containers after.")))

func rolloutRecordCells(r *v1alpha1.RolloutRecord, now time.Time) []any {
	connections, refused, reset := "-", "-", "-"
	if sum, counted := r.Status.Count(); counted {
		connections, refused, reset = fmt.Sprint(sum.Connections), fmt.Sprint(sum.Refused), fmt.Sprint(sum.Reset)
	}
	from := none
	if r.Spec.From != nil {
		from = or(strings.Join(r.Spec.From.Images, ","), none)
	}
	return []any{
		r.Name,
		strings.ToLower(r.Spec.Target.Kind) + "/" + r.Spec.Target.Name,
		r.Spec.Revision,
		cut(or(r.Spec.Cause, none), maxCause),
		recordStatus(&r.Status),
		fmt.Sprintf("%d/%d", r.Status.UpdatedReplicas, r.Status.Replicas),
		connections, refused, reset,
		recordDuration(r, now),
		age(&r.ObjectMeta, now),
		author(r.Spec.By), from, or(strings.Join(r.Spec.To.Images, ","), none),
	}
}

// recordStatus is the phase, with its reason when the phase alone does not tell
// enough.
func recordStatus(s *v1alpha1.RolloutRecordStatus) string {
	switch {
	case s.Phase == "":
		return unknown
	case s.Reason == "", s.Phase == v1alpha1.RolloutCompleted, s.Phase == v1alpha1.RolloutProgressing:
		return string(s.Phase)
	}
	return fmt.Sprintf("%s (%s)", s.Phase, s.Reason)
}

// author is who made a change, and with what.
func author(by *v1alpha1.Author) string {
	switch {
	case by == nil:
		return none
	case by.Client == "":
		return or(by.User, none)
	}
	return fmt.Sprintf("%s (%s)", or(by.User, none), by.Client)
}

// recordDuration is how long a rollout took, or has taken until now. A rollout is
// often over within seconds: what is below ten has one decimal.
func recordDuration(r *v1alpha1.RolloutRecord, now time.Time) string {
	var took time.Duration
	switch {
	case r.Status.Duration != nil:
		took = r.Status.Duration.Duration
	case r.Spec.StartedAt.IsZero():
		return unknown
	default:
		took = now.Sub(r.Spec.StartedAt.Time)
	}
	if tenths := took.Round(100 * time.Millisecond); tenths > 0 && tenths < 10*time.Second {
		return fmt.Sprintf("%.1fs", tenths.Seconds())
	}
	return duration.HumanDuration(took)
}

// maxCause is how many characters of a cause are shown.
const maxCause = 60

// cut is the first line of text, at most limit characters of it.
func cut(text string, limit int) string {
	first, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	if !more && utf8.RuneCountInString(first) <= limit {
		return first
	}
	runes := []rune(first)
	return string(runes[:min(len(runes), limit-1)]) + "…"
}
