package rolloutview

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"windlass.dev/windlass/api/v1alpha1"
)

const changeCause = "kubernetes.io/change-cause"

// History is a table of a Deployment's rollouts, the oldest first: its records,
// and the sets of revisions that have none.
func History(facts Facts, now time.Time) []string {
	rows := map[int64]string{}
	for i := range facts.Sets {
		set := &facts.Sets[i]
		if revision := revisionOf(set); revision > 0 && metav1.IsControlledBy(set, facts.Deployment) {
			rows[revision] = row(revision, "-", cut(set.Annotations[changeCause], maxCause), "-", "-", "-", "-")
		}
	}
	for i := range facts.Records {
		record := &facts.Records[i]
		if record.Spec.Target.UID != facts.Deployment.UID {
			continue
		}
		counts := "-"
		if sum, counted := record.Status.Count(); counted {
			counts = fmt.Sprintf("%s/%s/%s", grouped(sum.Connections), grouped(sum.Refused), grouped(sum.Reset))
		}
		user := "-"
		if by := record.Spec.By; by != nil && by.User != "" {
			user = by.User
		}
		rows[record.Spec.Revision] = row(record.Spec.Revision, string(record.Status.Phase), cut(record.Spec.Cause, maxCause), user,
			duration.HumanDuration(now.Sub(record.Spec.StartedAt.Time))+" ago", span(took(record, now)), counts)
	}
	if len(rows) == 0 {
		return []string{"No rollout history found."}
	}
	var revisions []int64
	for revision := range rows {
		revisions = append(revisions, revision)
	}
	slices.Sort(revisions)
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "REVISION\tSTATUS\tCAUSE\tBY\tSTARTED\tDURATION\tCONNECTIONS/REFUSED/RESET")
	for _, revision := range revisions {
		fmt.Fprintln(table, rows[revision])
	}
	_ = table.Flush() // a strings.Builder takes everything
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func row(revision int64, cells ...string) string {
	for i, cell := range cells {
		if cell == "" {
			cells[i] = "<none>"
		}
		cells[i] = clean(cells[i])
	}
	return fmt.Sprintf("%d\t%s", revision, strings.Join(cells, "\t"))
}

// Describe tells everything that a record has, for people.
func Describe(record *v1alpha1.RolloutRecord, now time.Time) []string {
	lines := Summary(record, now)
	if len(record.Spec.Changes) > 0 {
		lines = append(lines, "changes")
		for _, c := range record.Spec.Changes {
			if c.From != "" {
				lines = append(lines, clean(fmt.Sprintf("  - %s: %s", c.Path, c.From)))
			}
			if c.To != "" {
				lines = append(lines, clean(fmt.Sprintf("  + %s: %s", c.Path, c.To)))
			}
		}
	}
	if len(record.Status.Steps) > 0 {
		lines = append(lines, "steps")
		if n := record.Status.StepsOmitted; n > 0 {
			lines = append(lines, fmt.Sprintf("  … %d earlier ones", n))
		}
		for _, s := range record.Status.Steps {
			line := fmt.Sprintf("  +%.3fs  %s  %d → %d", max(0, s.Time.Sub(record.Spec.StartedAt.Time)).Seconds(), s.Set, s.From, s.To)
			if s.Why != "" {
				line += ": " + s.Why
			}
			lines = append(lines, clean(line))
		}
	}
	return lines
}
