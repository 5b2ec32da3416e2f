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

	// Low is the time if pods are as much faster as there are fewer at a time
	// than in earlier rollouts, where they had to wait for each other. Total is
	// then the time if none is faster than the fastest was.
	Low *metav1.Duration `json:"low,omitempty"`

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
	past := historyOf(records)
	if d.Rollouts = len(records); len(past.starts) == 0 {
		return d
	}
	d.Start = &metav1.Duration{Duration: settle + median(past.starts)}
	stop := median(past.stops)
	if len(past.stops) > 0 {
		d.Stop = &metav1.Duration{Duration: stop}
	}
	if forecast.StopWaits > 0 && len(past.stops) == 0 {
		return d
	}
	total, waits := time.Duration(forecast.StopWaits)*stop, forecast.Waits
	var less time.Duration
	for _, wave := range forecast.Waves {
		if wave.Starting > 0 {
			low, high := past.start(wave.Starting)
			total, less = total+settle+high, less+high-low
			waits--
		}
	}
	total += time.Duration(max(waits, 0)) * d.Start.Duration // without a step of the controller
	d.Total = &metav1.Duration{Duration: total}
	if less > total/4*3 { // less than that is no better than noise
		d.Low = &metav1.Duration{Duration: total - less}
	}
	return d
}

// history is how long pods took in earlier rollouts, sorted. Of the time to become
// available minReadySeconds is left out.
type history struct {
	starts, stops []time.Duration

	// together is how many pods were starting at a time, on average.
	together float64
}

// start is how long n pods take that start at a time. Many that started together
// had to wait for each other. Fewer take less: low, if in proportion; high, if no
// less than the fastest of the many.
func (h *history) start(n int32) (low, high time.Duration) {
	m := median(h.starts)
	if part := float64(n) / h.together; part < 1 {
		low = time.Duration(float64(m) * part)
		return low, max(low, h.starts[0])
	}
	return m, m
}

func historyOf(records []v1alpha1.RolloutRecord) history {
	var h history
	var busy, sum time.Duration
	for _, r := range records {
		settle := time.Duration(r.Spec.Strategy.MinReadySeconds) * time.Second
		var end time.Time
		for _, pod := range r.Status.Pods { // in the order of their creation
			if pod.StopRequested != nil && pod.Stopped != nil {
				h.stops = append(h.stops, pod.Stopped.Sub(pod.StopRequested.Time))
			}
			if pod.Set != r.Spec.To.Name || pod.Created == nil || pod.Available == nil {
				continue
			}
			took := max(pod.Available.Sub(pod.Created.Time)-settle, 0)
			h.starts = append(h.starts, took)
			from, to := pod.Created.Time, pod.Created.Add(took)
			if from.Before(end) {
				from = end
			}
			if to.After(from) {
				busy, end = busy+to.Sub(from), to
			}
			sum += took
		}
	}
	h.together = max(float64(sum)/float64(max(busy, 1)), 1)
	slices.Sort(h.starts)
	slices.Sort(h.stops)
	return h
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

// median is the one in the middle of sorted times, 0 if there are none.
func median(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2]
}
