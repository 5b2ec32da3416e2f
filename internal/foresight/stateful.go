package foresight

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/rollout"
)

// Stateful is what more is known when the change is that of a StatefulSet. Facts
// have it in the form of a Deployment then (rollout.View).
type Stateful struct {
	Before, After *appsv1.StatefulSet // nil as in Facts

	// Revisions are those of the StatefulSet's namespace.
	Revisions []*appsv1.ControllerRevision

	pods []*corev1.Pod // the StatefulSet's, and those of nobody, as they are
}

// StatefulFacts returns the first facts about a change of a StatefulSet: what
// changes, or why it is refused.
func StatefulFacts(before, after *appsv1.StatefulSet, refused *metav1.Status) Facts {
	f := Facts{Refused: refused, Stateful: &Stateful{Before: before, After: after}}
	if before != nil {
		f.Before = rollout.ViewOf(before, nil, nil).Deployment
	}
	if after != nil {
		f.After = rollout.ViewOf(after, nil, nil).Deployment
	}
	return f
}

// see completes the view by the revisions and pods.
func (f *Facts) see() {
	s := *f.Stateful
	f.Stateful = &s
	if s.Before == nil {
		return
	}
	var revisions []*appsv1.ControllerRevision
	for _, r := range s.Revisions {
		if metav1.IsControlledBy(r, s.Before) {
			revisions = append(revisions, r)
		}
	}
	var mine, others []*corev1.Pod
	for _, pod := range f.Pods {
		owner := metav1.GetControllerOfNoCopy(pod)
		switch {
		case owner != nil && owner.UID == s.Before.UID:
			mine = append(mine, pod)
		case owner == nil && pod.Namespace == f.Namespace:
			s.pods = append(s.pods, pod)
			others = append(others, pod)
		default:
			others = append(others, pod)
		}
	}
	s.pods = append(s.pods, mine...)
	view := rollout.ViewOf(s.Before, revisions, mine)
	f.ReplicaSets, f.Pods = view.Sets, append(others, view.Pods...)
}

// forecastIn plays the change in some room.
func forecastIn(facts *Facts, room rollout.Room) rollout.Forecast {
	if s := facts.Stateful; s != nil {
		return rollout.StatefulForecastOf(rollout.StatefulSnapshot{
			Set: s.After, Revisions: s.Revisions, Pods: s.pods, Claims: facts.Claims, OnFailure: facts.OnFailure, Now: facts.Now,
		}, room)
	}
	return rollout.ForecastOf(snapshot(facts), room)
}

// describeStateful says what changes in a StatefulSet, once it is known what that
// leads to: a lower partition replaces pods too.
func (f *Foresight) describeStateful(facts *Facts, forecast rollout.Forecast) {
	s := facts.Stateful
	if s.Before == nil {
		return
	}
	f.Changes = ObjectChanges(withoutStatus(s.Before), withoutStatus(s.After))
	replaces := false
	for _, wave := range forecast.Waves {
		for _, move := range wave.Moves {
			replaces = replaces || move.To < move.From && !move.New
		}
	}
	switch {
	case len(f.Changes) == 0:
		f.Kind = KindNone
	case f.Kind == KindRollout || f.Kind == KindScale:
	case replaces:
		f.Kind = KindRollout
		f.Revision, f.Again = revisions(facts)
	default:
		f.Kind = KindEdit
	}
}

func withoutStatus(set *appsv1.StatefulSet) *appsv1.StatefulSet {
	out := set.DeepCopy()
	out.Status = appsv1.StatefulSetStatus{}
	return out
}

// statefulRounding says how many pods are replaced at a time.
func statefulRounding(set *appsv1.StatefulSet, budget rollout.Budget) string {
	if budget.Replicas == 0 {
		return "no pods are wanted"
	}
	strategy := &set.Spec.UpdateStrategy
	if strategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return "OnDelete: a pod is replaced when somebody deletes it"
	}
	out := "maxUnavailable 1"
	if r := strategy.RollingUpdate; r != nil {
		out = rounded("maxUnavailable", r.MaxUnavailable, budget.Replicas, budget.Unavailable, "up")
		if r.MaxUnavailable == nil {
			out = "maxUnavailable 1"
		}
		if partition := ptr.Deref(r.Partition, 0); partition > 0 {
			out += fmt.Sprintf(", partition %d: the lowest %s stay as they are", partition, pods(min(partition, budget.Replicas)))
		}
	}
	return fmt.Sprintf("%s: at least %d of %s", out, budget.MinAvailable(), pods(budget.Replicas))
}
