package proxy

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestCounts says for how long a rollout is counted.
func TestCounts(t *testing.T) {
	ended := time.Unix(1000, 0)
	for _, c := range []struct {
		name    string
		phase   v1alpha1.RolloutPhase
		service string
		leaving bool
		after   time.Duration // the outcome
		want    bool
	}{
		{"no status yet", "", "web", false, 0, true},
		{"running", v1alpha1.RolloutProgressing, "web", false, time.Hour, true},
		{"paused", v1alpha1.RolloutPaused, "web", false, time.Hour, true},
		{"no Service", v1alpha1.RolloutProgressing, "", false, 0, false},
		{"just over", v1alpha1.RolloutCompleted, "web", false, settleTime - 1, true},
		{"over", v1alpha1.RolloutCompleted, "web", false, settleTime, false},
		{"over, pods leave", v1alpha1.RolloutRolledBack, "web", true, leaveTime - 1, true},
		{"over, pods never leave", v1alpha1.RolloutFailed, "web", true, leaveTime, false},
	} {
		record := &v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Status: v1alpha1.RolloutRecordStatus{Phase: c.phase}}
		if c.service != "" {
			record.Spec.Services = []string{c.service}
		}
		if c.phase.Over() {
			record.Status.EndedAt = &metav1.MicroTime{Time: ended}
		}
		leaving := func(service string) bool { return c.leaving && service == "default/web" }
		if got := counts(record, leaving, ended.Add(c.after)); got != c.want {
			t.Errorf("%s: counted is %v, want %v", c.name, got, c.want)
		}
	}
}

// TestTallyDue says when a record is written.
func TestTallyDue(t *testing.T) {
	wrote := time.Unix(1000, 0)
	for _, c := range []struct {
		name    string
		count   int64
		written int64 // -1: nothing
		after   time.Duration
		final   bool
		want    bool
	}{
		{"nothing yet", 0, -1, 0, false, false},
		{"nothing at the end", 0, -1, 0, true, true},
		{"the first", 1, -1, 0, false, true},
		{"more too soon", 2, 1, writeEvery - 1, false, false},
		{"more", 2, 1, writeEvery, false, true},
		{"more at the end", 2, 1, 0, true, true},
		{"no more at the end", 2, 2, time.Hour, true, false},
	} {
		tally := &tally{count: connections(c.written)}
		if c.written >= 0 {
			tally.wrote(wrote)
		}
		tally.count = connections(c.count)
		if got := tally.due(wrote.Add(c.after), c.final); got != c.want {
			t.Errorf("%s: due is %v, want %v", c.name, got, c.want)
		}
	}
}
