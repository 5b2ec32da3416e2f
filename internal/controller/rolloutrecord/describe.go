package rolloutrecord

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

const clockFormat = "15:04:05.999999"

// describe is a record's spec as a script shows it.
func describe(r *v1alpha1.RolloutRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s to %s at %s", r.Name, describeSide(r.Spec.From), describeSide(&r.Spec.To), r.Spec.StartedAt.UTC().Format(clockFormat))
	fmt.Fprintf(&b, " because %q", r.Spec.Cause)
	if r.Spec.CauseComputed {
		b.WriteString(" (computed)")
	}
	if by := r.Spec.By; by != nil {
		fmt.Fprintf(&b, " by %s", by.User)
	}
	fmt.Fprintf(&b, " %s of %d", r.Spec.Strategy.Type, r.Spec.Strategy.Replicas)
	if len(r.Spec.Services) > 0 {
		fmt.Fprintf(&b, " behind %s", strings.Join(r.Spec.Services, ","))
	}
	return b.String()
}

func describeSide(side *v1alpha1.RolloutSide) string {
	switch {
	case side == nil:
		return "nothing"
	case side.Revision == 0:
		return side.Name
	}
	return fmt.Sprintf("%s(%d)", side.Name, side.Revision)
}

// describeStatus is a record's status as a script shows it.
func describeStatus(st *v1alpha1.RolloutRecordStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s; %d pods, %d new, %d available", st.Phase, st.Reason, st.Message, st.Replicas, st.UpdatedReplicas, st.AvailableReplicas)
	if st.EndedAt != nil {
		fmt.Fprintf(&b, "; ended %s after %s", st.EndedAt.UTC().Format(clockFormat), st.Duration.Duration)
	}
	for _, step := range st.Steps {
		fmt.Fprintf(&b, "\n  %s %s %d to %d", step.Time.UTC().Format(clockFormat), step.Set, step.From, step.To)
		if step.Why != "" {
			fmt.Fprintf(&b, ": %s", step.Why)
		}
	}
	if st.StepsOmitted > 0 {
		fmt.Fprintf(&b, "\n  after %d more steps", st.StepsOmitted)
	}
	for _, t := range st.Pods {
		fmt.Fprintf(&b, "\n  %s of %s", t.Name, t.Set)
		for _, m := range []struct {
			name string
			at   *metav1.MicroTime
		}{
			{"created", t.Created}, {"scheduled", t.Scheduled}, {"image", t.ImageReady}, {"started", t.Started},
			{"ready", t.Ready}, {"available", t.Available}, {"stop", t.StopRequested}, {"removed", t.EndpointRemoved},
			{"drained", t.Drained}, {"stopped", t.Stopped},
		} {
			if m.at != nil {
				fmt.Fprintf(&b, " %s=%s", m.name, m.at.UTC().Format(clockFormat))
			}
		}
		if t.Note != "" {
			fmt.Fprintf(&b, " (%s)", t.Note)
		}
	}
	if st.PodsOmitted > 0 {
		fmt.Fprintf(&b, "\n  and %d more pods", st.PodsOmitted)
	}
	for _, t := range st.Timings {
		fmt.Fprintf(&b, "\n  %s of %d: %s, at most %s", t.Stage, t.Pods, t.Median.Duration, t.Max.Duration)
	}
	return b.String()
}
