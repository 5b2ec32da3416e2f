package rolloutrecord

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// stages are those of a pod's life, in their order. The first five are counted
// for the pods that the rollout made.
var stages = []string{"schedule", "pull", "start", "ready", "available", "route", "drain", "stop"}

// stage returns the moments at which a stage of a pod's life began and ended, nil
// for one that is not known.
func stage(name string, t v1alpha1.PodTimeline) (from, to *metav1.MicroTime) {
	switch name {
	case "schedule":
		return t.Created, t.Scheduled
	case "pull":
		return t.Scheduled, t.ImageReady
	case "start":
		return first(t.ImageReady, t.Scheduled), t.Started
	case "ready":
		return t.Started, t.Ready
	case "available":
		return t.Ready, t.Available
	case "route":
		return t.StopRequested, t.EndpointRemoved
	case "drain":
		return t.EndpointRemoved, t.Drained
	case "stop":
		return first(t.Drained, t.StopRequested), t.Stopped
	}
	return nil, nil
}

// sample returns how long a stage of a pod took, false when that is not known or
// not of this rollout. Clocks of two processes may differ: no stage took less
// than nothing.
func sample(name string, e entry, record *v1alpha1.RolloutRecord) (time.Duration, bool) {
	from, to := stage(name, e.PodTimeline)
	if from == nil || to == nil {
		return 0, false
	}
	stopping := name == "route" || name == "drain" || name == "stop"
	if !stopping && (e.Created == nil || beforeStart(e.Created, record)) {
		return 0, false
	}
	return max(to.Sub(from.Time), 0), true
}

// samples returns how long a stage took for each pod of which that is known.
func samples(name string, pods map[string]entry, record *v1alpha1.RolloutRecord) (all []time.Duration) {
	for _, e := range pods {
		if took, ok := sample(name, e, record); ok {
			all = append(all, took)
		}
	}
	return all
}

// timings sums up the stages. Pods that are lost count as if each had taken as
// long as was in the middle when they were omitted.
func (b *Book) timings(record *v1alpha1.RolloutRecord) (timings []v1alpha1.StageTiming) {
	for _, name := range stages {
		all := samples(name, b.pods, record)
		timing := v1alpha1.StageTiming{Stage: name}
		for _, lost := range b.lostTimings {
			if lost.Stage == name && lost.Pods > 0 {
				timing.Max = lost.Max
				all = append(all, slices.Repeat([]time.Duration{lost.Median.Duration}, int(lost.Pods))...)
			}
		}
		if len(all) == 0 {
			continue
		}
		slices.Sort(all)
		timing.Pods = int32(len(all))
		timing.Median.Duration = all[(len(all)-1)/2]
		timing.Max.Duration = max(timing.Max.Duration, all[len(all)-1])
		timings = append(timings, timing)
	}
	return timings
}
