package foresight

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// lastRecords is how many of the last complete rollouts count.
const lastRecords = 5

// Duration is how long a rollout should take.
type Duration struct {
	// Total is the expected time, absent when it is not known. AtLeast is what
	// minReadySeconds alone takes.
	Total   *metav1.Duration `json:"total,omitempty"`
	AtLeast metav1.Duration  `json:"atLeast"`

	// Start is how long a new pod takes to become available, and Stop how long an
	// old one takes to stop: the medians of Rollouts earlier ones.
	Start    *metav1.Duration `json:"start,omitempty"`
	Stop     *metav1.Duration `json:"stop,omitempty"`
	Rollouts int              `json:"rollouts,omitempty"`

	// Pulls are images that some node must pull first, which is not counted.
	Pulls []string `json:"pulls,omitempty"`
}

// expected works out how long a change takes: as often as it waits for pods, as
// long as pods took.
func expected(facts *Facts, ideal, real rollout.Forecast) *Duration {
	forecast := ideal
	if real.Complete {
		forecast = real
	}
	settle := time.Duration(facts.After.Spec.MinReadySeconds) * time.Second
	d := &Duration{AtLeast: metav1.Duration{Duration: time.Duration(forecast.Waits) * settle}, Pulls: newImages(facts)}
	records := lastComplete(facts)
	starts, stops := podTimes(records)
	if d.Rollouts = len(records); len(starts) == 0 {
		return d
	}
	start, stop := settle+median(starts), median(stops)
	d.Start = &metav1.Duration{Duration: start}
	if len(stops) > 0 {
		d.Stop = &metav1.Duration{Duration: stop}
	}
	if forecast.StopWaits == 0 || len(stops) > 0 {
		d.Total = &metav1.Duration{Duration: time.Duration(forecast.Waits)*start + time.Duration(forecast.StopWaits)*stop}
	}
	return d
}

// lastComplete returns the records of the Deployment's last complete rollouts.
func lastComplete(facts *Facts) []v1alpha1.RolloutRecord {
	if facts.Before == nil {
		return nil
	}
	mine := slices.DeleteFunc(slices.Clone(facts.Records), func(r v1alpha1.RolloutRecord) bool {
		return r.Spec.Target.UID != facts.Before.UID || r.Status.Phase != v1alpha1.RolloutCompleted
	})
	slices.SortFunc(mine, func(a, b v1alpha1.RolloutRecord) int {
		return cmp.Or(b.Spec.StartedAt.Compare(a.Spec.StartedAt.Time), cmp.Compare(b.Name, a.Name))
	})
	return mine[:min(len(mine), lastRecords)]
}

// podTimes returns how long new pods took to become available once they were
// ready for long enough (minReadySeconds left out), and old ones to stop.
func podTimes(records []v1alpha1.RolloutRecord) (starts, stops []time.Duration) {
	for _, r := range records {
		settle := time.Duration(r.Spec.Strategy.MinReadySeconds) * time.Second
		for _, pod := range r.Status.Pods {
			if pod.Set == r.Spec.To.Name && pod.Created != nil && pod.Available != nil {
				starts = append(starts, max(pod.Available.Sub(pod.Created.Time)-settle, 0))
			}
			if pod.StopRequested != nil && pod.Stopped != nil {
				stops = append(stops, pod.Stopped.Sub(pod.StopRequested.Time))
			}
		}
	}
	return starts, stops
}

func median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)/2]
}
