package rolloutview

import (
	"slices"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// timeLeft estimates how much longer a rollout takes: by its own pace, or by
// that of earlier ones while no new pod is available; negative when neither
// tells, or when it does not go on.
func timeLeft(r *Rollout, records []v1alpha1.RolloutRecord) time.Duration {
	if slices.ContainsFunc(r.Pods, func(p Pod) bool { return p.New && p.State == Failing }) {
		return -1
	}
	switch left := r.Wanted - r.Available; {
	case left <= 0:
		return -1 // it waits for old pods to stop, each at its own pace
	case r.Available > 0:
		return r.Took * time.Duration(left) / time.Duration(r.Available)
	}
	var perPod []time.Duration
	for i := range records {
		record := &records[i]
		if record.Status.Phase == v1alpha1.RolloutCompleted && record.Spec.Target.UID == r.Record.Spec.Target.UID && record.Spec.Strategy.Replicas > 0 {
			perPod = append(perPod, took(record, time.Time{})/time.Duration(record.Spec.Strategy.Replicas))
		}
	}
	if len(perPod) == 0 {
		return -1
	}
	slices.Sort(perPod)
	return max(0, perPod[len(perPod)/2]*time.Duration(r.Wanted)-r.Took)
}
