package rolloutview

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// Summary tells a rollout in a few lines: how it stands or ended, why it was
// begun and by whom, its traffic, what took longest, and what to do if it failed.
func Summary(record *v1alpha1.RolloutRecord, now time.Time) []string {
	spec, status := &record.Spec, &record.Status
	title := fmt.Sprintf("revision %d of %s: %s", spec.Revision, target(record), outcome(status.Phase))
	if took := took(record, now); status.Phase.Over() {
		title += " after " + span(took)
	} else {
		title += " for " + span(took)
	}
	lines := []string{title}
	add := func(label, text string) {
		if text != "" {
			lines = append(lines, fmt.Sprintf("  %-8s %s", label, clean(text)))
		}
	}
	add("cause", spec.Cause)
	add("by", author(spec.By))
	sum, counted := status.Count()
	add("traffic", traffic(sum, counted))
	add("slowest", slowest(status.Timings))
	if status.Phase != v1alpha1.RolloutCompleted {
		label := "waiting"
		if status.Phase.Over() {
			label = "why"
		}
		add(label, strings.Join(nonEmpty(status.Reason, status.Message), ": "))
		for _, next := range advice(record) {
			add("next", next)
		}
	}
	return lines
}

func target(record *v1alpha1.RolloutRecord) string {
	return strings.ToLower(record.Spec.Target.Kind) + "/" + record.Spec.Target.Name
}

// slowest names the three stages that took longest.
func slowest(timings []v1alpha1.StageTiming) string {
	timings = slices.Clone(timings)
	slices.SortStableFunc(timings, func(a, b v1alpha1.StageTiming) int { return cmp.Compare(b.Max.Duration, a.Max.Duration) })
	var parts []string
	for _, t := range timings[:min(3, len(timings))] {
		parts = append(parts, fmt.Sprintf("%s %s (median %s)", t.Stage, span(t.Max.Duration), span(t.Median.Duration)))
	}
	return strings.Join(parts, ", ")
}

// remedies say what to do about what a note or reason contains. POD and TARGET
// stand for their names.
var remedies = []struct{ sign, advice string }{
	{"ErrImagePull", "check the image's name, or bring it to the node with: windlass image load|pull"},
	{"ImagePullBackOff", "check the image's name, or bring it to the node with: windlass image load|pull"},
	{"ErrImageNeverPull", "bring the image to the node with: windlass image load|pull"},
	{"InvalidImageName", "correct the image's name"},
	{"CreateContainerConfigError", "make the ConfigMap or Secret that is missing, or correct its name"},
	{"StartError", "correct the container's command"},
	{"RunContainerError", "correct the container's command"},
	{"CrashLoopBackOff", "see why it ends with: windlass kubectl logs POD --previous"},
	{"restarted", "see why it ends with: windlass kubectl logs POD --previous"},
	{"Unschedulable", "make room on a node, or ask for less"},
	{"FailedCreate", "see what refuses the pods with: windlass kubectl describe TARGET"},
}

// advice says what to do about a rollout that has failed or is in trouble.
func advice(record *v1alpha1.RolloutRecord) []string {
	status := &record.Status
	if status.Phase == v1alpha1.RolloutSuperseded || status.Phase == v1alpha1.RolloutCompleted {
		return nil
	}
	pod, signs := "", status.Reason+" "+status.Message
	for _, p := range status.Pods {
		if p.Set == record.Spec.To.Name && p.Available == nil && p.Note != "" {
			pod, signs = p.Name, signs+" "+p.Note
			break
		}
	}
	var advice []string
	for _, r := range remedies {
		if strings.Contains(signs, r.sign) && (pod != "" || !strings.Contains(r.advice, "POD")) {
			advice = append(advice, strings.NewReplacer("POD", pod, "TARGET", target(record)).Replace(r.advice))
			break
		}
	}
	switch status.Phase {
	case v1alpha1.RolloutFailed:
		advice = append(advice, "go back with: windlass rollout undo "+target(record))
	case v1alpha1.RolloutRolledBack:
		advice = append(advice, "the revision before serves; mend the manifest and apply it again")
	case v1alpha1.RolloutPaused:
		advice = append(advice, "go on with: windlass rollout resume "+target(record))
	}
	return advice
}
