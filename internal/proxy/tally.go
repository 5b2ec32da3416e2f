package proxy

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/api/v1alpha1"
)

const (
	// writeEvery is how often a running rollout's record is written at most.
	writeEvery = time.Second

	// settleTime is how long after its outcome a rollout is counted at least:
	// the pods that it deleted last are known to be leaving by then.
	settleTime = 2 * time.Second

	// leaveTime is how long it is counted at most while pods still leave.
	leaveTime = time.Minute
)

// tally is what one rollout's record says of the traffic on this node.
type tally struct {
	record   types.UID
	services []string                         // namespace/name
	at       map[string]v1alpha1.TrafficCount // the sums that are in count
	count    v1alpha1.TrafficCount

	written *v1alpha1.TrafficCount // what the record has; nil: nothing yet
	wroteAt time.Time
}

// newTally begins to count at the given sums, and goes on from what the record
// says of the node already.
func newTally(record *v1alpha1.RolloutRecord, node string, sums map[string]v1alpha1.TrafficCount) *tally {
	t := &tally{record: record.UID, at: map[string]v1alpha1.TrafficCount{}}
	for _, name := range record.Spec.Services {
		service := record.Namespace + "/" + name
		t.services = append(t.services, service)
		t.at[service] = sums[service]
	}
	if count, ok := record.Status.Traffic[node]; ok {
		t.count, t.written = count, &count
	}
	return t
}

// advance adds what came since the sums were seen before.
func (t *tally) advance(sums map[string]v1alpha1.TrafficCount) {
	for _, service := range t.services {
		t.count = plus(t.count, since(t.at[service], sums[service]))
		t.at[service] = sums[service]
	}
}

// due says whether the record is to be written now: when there is something
// new, and at the end in any case.
func (t *tally) due(now time.Time, final bool) bool {
	if t.written == nil {
		return final || t.count != (v1alpha1.TrafficCount{})
	}
	return t.count != *t.written && (final || now.Sub(t.wroteAt) >= writeEvery)
}

// wrote notes that the record says what was counted.
func (t *tally) wrote(now time.Time) {
	written := t.count
	t.written, t.wroteAt = &written, now
}

// counts says whether the traffic of a rollout is to be counted at a time:
// until its outcome, and then while pods of its Services are leaving.
func counts(record *v1alpha1.RolloutRecord, leaving func(service string) bool, now time.Time) bool {
	if len(record.Spec.Services) == 0 {
		return false
	}
	if !record.Status.Phase.Over() {
		return true
	}
	if record.Status.EndedAt == nil {
		return false
	}
	age := now.Sub(record.Status.EndedAt.Time)
	if age < settleTime {
		return true
	}
	for _, name := range record.Spec.Services {
		if age < leaveTime && leaving(record.Namespace+"/"+name) {
			return true
		}
	}
	return false
}
