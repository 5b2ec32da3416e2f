package tainteviction

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"windlass.dev/windlass/internal/condition"
)

// eviction is a pod to delete.
type eviction struct {
	Pod  *corev1.Pod
	Lost bool // its node is not reachable: nobody there will say how it ended
	Why  string
}

// patience is how much of a node's trouble is held against it.
type patience struct {
	Held  bool      // none of it now
	Since time.Time // else what there was of it since then
}

// plan decides which pods of a node go now, and when to look again; zero is when
// something changes.
func plan(node *corev1.Node, pods []*corev1.Pod, p patience, now time.Time) (evictions []eviction, wakeAt time.Time) {
	taints := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectNoExecute || p.Held && trouble(t.Key)
	})
	if len(taints) == 0 {
		return nil, time.Time{}
	}
	lost := slices.ContainsFunc(taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeUnreachable })
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || condition.Ended(pod.Status.Phase) {
			continue
		}
		at, taint := endurance(pod, taints, p.Since, now)
		switch {
		case taint == nil:
		case !now.Before(at):
			evictions = append(evictions, eviction{pod, lost, fmt.Sprintf("it does not tolerate %s of node %s any longer", taint.ToString(), node.Name)})
		case wakeAt.IsZero() || at.Before(wakeAt):
			wakeAt = at
		}
	}
	return evictions, wakeAt
}

// trouble: the taint says that the node is not well, not that somebody wants it empty.
func trouble(key string) bool {
	return key == corev1.TaintNodeNotReady || key == corev1.TaintNodeUnreachable
}

// endurance is until when a pod tolerates all the taints, and the taint that
// ends it; nil when it tolerates them for good.
func endurance(pod *corev1.Pod, taints []corev1.Taint, since, now time.Time) (at time.Time, by *corev1.Taint) {
	for i := range taints {
		until, forever := tolerated(pod, &taints[i], since, now)
		if !forever && (by == nil || until.Before(at)) {
			at, by = until, &taints[i]
		}
	}
	return at, by
}

// tolerated is until when a pod tolerates one taint. What both have begun counts
// from the later of them: a pod that comes to a tainted node has its time too. So
// does one whose node's trouble was not looked on at, or is dated in the future by a
// clock that was set back.
func tolerated(pod *corev1.Pod, taint *corev1.Taint, since, now time.Time) (until time.Time, forever bool) {
	began := pod.CreationTimestamp.Time
	if taint.TimeAdded != nil && taint.TimeAdded.After(began) {
		began = taint.TimeAdded.Time
	}
	if trouble(taint.Key) && (began.Before(since) || began.After(now)) {
		began = since
	}
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if !schedulinghelpers.TolerationsTolerateTaint(klog.Logger{}, []corev1.Toleration{*t}, taint, false) {
			continue
		}
		if t.TolerationSeconds == nil {
			return time.Time{}, true
		}
		return began.Add(time.Duration(max(*t.TolerationSeconds, 0)) * time.Second), false
	}
	return time.Time{}, false
}

// byPriority orders evictions: the least important first.
func byPriority(a, b eviction) int {
	return cmp.Compare(schedulinghelpers.PodPriority(a.Pod), schedulinghelpers.PodPriority(b.Pod))
}
