package rolloutview

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
)

// State is where a pod is in its life, as far as a rollout is concerned.
type State int

// The states of a pod.
const (
	Unscheduled State = iota // no node has been found
	Preparing                // its node fetches and makes what it needs
	Starting                 // its containers run and are not ready
	Ready                    // ready, but not for minReadySeconds yet
	Serving                  // available
	Failing                  // it will not go on without a change
	Draining                 // it was told to stop
	Stopped                  // it has, or is gone
)

// look is how a state is shown.
type look struct {
	letter string // in the grid
	word   string
	style  Style
}

var looks = map[State]look{
	Unscheduled: {"w", "waits for a node", Faint},
	Preparing:   {"p", "preparing", Busy},
	Starting:    {"s", "starting", Busy},
	Ready:       {"r", "ready", New},
	Serving:     {"N", "available", New},
	Failing:     {"x", "failing", Bad},
	Draining:    {"d", "draining", Busy},
	Stopped:     {".", "stopped", Faint},
}

// Pod is one pod of a rollout.
type Pod struct {
	Name, Node string
	key        string // the name and the set: a pod of a StatefulSet has a successor of its name
	New        bool   // of the revision that the rollout leads to
	There      bool   // in the API, and not only on record
	State      State
	Restarts   int
	Note       string
	Stages     []Stage // those reached, in their order
	Recorded   []Stage // those that the rollout's record tells of
}

// Stage is a stage of a pod's life that has been reached.
type Stage struct {
	Name string
	At   time.Time
}

// The stages' names, as they are printed.
const (
	stageCreated   = "created"
	stageScheduled = "scheduled"
	stageImage     = "image ready"
	stageStarted   = "started"
	stageReady     = "ready"
	stageAvailable = "available"
	stageDraining  = "draining"
	stageUnrouted  = "out of service"
	stageDrained   = "drained"
	stageStopped   = "stopped"
)

// look is how the pod is shown: an old one that serves is "old".
func (p *Pod) look() look {
	if p.State <= Serving && !p.New {
		return look{"o", "old", Old}
	}
	return looks[p.State]
}

// takePods puts the pods of both sides into the rollout: those that are there,
// and those that only the record still tells of.
func (r *Rollout) takePods(facts Facts, now time.Time) {
	sets := map[types.UID]int64{}
	for i := range facts.Sets {
		if set := &facts.Sets[i]; metav1.IsControlledBy(set, facts.Deployment) {
			sets[set.UID] = revisionOf(set)
		}
	}
	recorded, to := map[string]*v1alpha1.PodTimeline{}, ""
	if r.Record != nil {
		to = r.Record.Spec.To.Name
		for i := range r.Record.Status.Pods {
			p := &r.Record.Status.Pods[i]
			recorded[keyOf(p.Name, p.Set)] = p
		}
	}
	minReady := time.Duration(facts.Deployment.Spec.MinReadySeconds) * time.Second
	for i := range facts.Pods {
		pod := &facts.Pods[i]
		owner := metav1.GetControllerOf(pod)
		if owner == nil {
			continue
		}
		revision, ours := sets[owner.UID]
		if !ours {
			continue
		}
		key := keyOf(pod.Name, owner.Name)
		timeline, known := timelineOf(pod), recorded[key]
		if known != nil {
			timeline = merge(*known, timeline)
			delete(recorded, key)
		}
		p := podOf(pod, timeline, minReady, now)
		p.key = key
		if known != nil {
			p.Recorded = stages(known)
		}
		p.New = owner.Name == to || to == "" && revision == r.Revision
		r.count(&p)
		r.Pods = append(r.Pods, p)
	}
	for key, timeline := range recorded {
		if timeline.Stopped != nil {
			r.Pods = append(r.Pods, Pod{
				Name: timeline.Name, key: key, Node: timeline.Node, New: timeline.Set == to, State: Stopped, Note: timeline.Note,
				Stages: stages(timeline), Recorded: stages(timeline),
			})
		}
	}
	slices.SortFunc(r.Pods, func(a, b Pod) int {
		return cmp.Or(-cmpBool(a.New, b.New), a.began().Compare(b.began()), cmp.Compare(a.Name, b.Name))
	})
}

func keyOf(name, set string) string { return name + "@" + set }

func (r *Rollout) count(p *Pod) {
	switch {
	case p.New && p.State == Serving:
		r.Available++
	case !p.New && p.State != Stopped:
		r.Old++
	}
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (p *Pod) began() time.Time {
	if len(p.Stages) == 0 {
		return time.Time{}
	}
	return p.Stages[0].At
}

func podOf(pod *corev1.Pod, timeline v1alpha1.PodTimeline, minReady time.Duration, now time.Time) Pod {
	p := Pod{Name: pod.Name, Node: pod.Spec.NodeName, There: true, Stages: stages(&timeline), Note: timeline.Note}
	trouble := ""
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			p.Restarts += int(list[i].RestartCount)
			if trouble == "" {
				trouble = obstacle(&list[i])
			}
		}
	}
	ready := condition.Since(pod, corev1.PodReady)
	switch {
	case pod.DeletionTimestamp != nil && timeline.Stopped != nil:
		p.State = Stopped
	case pod.DeletionTimestamp != nil:
		p.State = Draining
	case !ready.IsZero() && now.Sub(ready) >= minReady:
		p.State = Serving
	case !ready.IsZero():
		p.State = Ready
	case trouble != "" || pod.Status.Phase == corev1.PodFailed:
		p.State, p.Note = Failing, cmp.Or(trouble, pod.Status.Reason, p.Note)
	case timeline.Started != nil:
		p.State = Starting
	case pod.Spec.NodeName != "":
		p.State = Preparing
	default:
		p.State, p.Note = Unscheduled, unschedulable(pod)
	}
	return p
}

// obstacle is why a container does not run and will not soon, "" if it may.
func obstacle(c *corev1.ContainerStatus) string {
	w := c.State.Waiting
	if w == nil || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing" {
		return ""
	}
	message := w.Message
	if last := c.LastTerminationState.Terminated; last != nil && last.Message != "" {
		message = last.Message
	}
	if message == "" {
		return w.Reason
	}
	return w.Reason + ": " + message
}

func unschedulable(pod *corev1.Pod) string {
	if c := condition.Find(&pod.Status, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		return c.Message
	}
	return ""
}

// timelineOf is what a pod itself tells of its life.
func timelineOf(pod *corev1.Pod) v1alpha1.PodTimeline {
	var m v1alpha1.PodMoments
	if json.Unmarshal([]byte(pod.Annotations[v1alpha1.AnnotationMoments]), &m) != nil {
		m = v1alpha1.PodMoments{}
	}
	t := v1alpha1.PodTimeline{
		Name: pod.Name, Node: pod.Spec.NodeName, Created: micro(pod.CreationTimestamp.Time), Scheduled: micro(condition.Since(pod, corev1.PodScheduled)),
		ImageReady: m.ImageReady, Started: m.Started, Ready: m.Ready,
		EndpointRemoved: m.EndpointRemoved, Drained: m.Drained, Stopped: m.Stopped, Note: m.Note,
	}
	if t.Ready == nil {
		t.Ready = micro(condition.Since(pod, corev1.PodReady))
	}
	if at := pod.DeletionTimestamp; at != nil {
		grace := int64(0)
		if s := pod.DeletionGracePeriodSeconds; s != nil {
			grace = *s
		}
		t.StopRequested = micro(at.Add(-time.Duration(grace) * time.Second))
	}
	return t
}

func micro(t time.Time) *metav1.MicroTime {
	if t.IsZero() {
		return nil
	}
	return &metav1.MicroTime{Time: t}
}

// merge prefers what is on record, which is finer, to what the pod tells, which
// may be newer.
func merge(recorded, pod v1alpha1.PodTimeline) v1alpha1.PodTimeline {
	t := recorded
	for _, pair := range []struct{ to, from **metav1.MicroTime }{
		{&t.Created, &pod.Created}, {&t.Scheduled, &pod.Scheduled}, {&t.ImageReady, &pod.ImageReady}, {&t.Started, &pod.Started}, {&t.Ready, &pod.Ready},
		{&t.StopRequested, &pod.StopRequested}, {&t.EndpointRemoved, &pod.EndpointRemoved}, {&t.Drained, &pod.Drained}, {&t.Stopped, &pod.Stopped},
	} {
		if *pair.to == nil {
			*pair.to = *pair.from
		}
	}
	t.Node, t.Note = cmp.Or(pod.Node, t.Node), cmp.Or(t.Note, pod.Note)
	return t
}

func stages(t *v1alpha1.PodTimeline) []Stage {
	var list []Stage
	for _, s := range []struct {
		name string
		at   *metav1.MicroTime
	}{
		{stageCreated, t.Created}, {stageScheduled, t.Scheduled}, {stageImage, t.ImageReady}, {stageStarted, t.Started},
		{stageReady, t.Ready}, {stageAvailable, t.Available},
		{stageDraining, t.StopRequested}, {stageUnrouted, t.EndpointRemoved}, {stageDrained, t.Drained}, {stageStopped, t.Stopped},
	} {
		if s.at != nil && !s.at.IsZero() {
			list = append(list, Stage{s.name, s.at.Time})
		}
	}
	return list
}

// reached is when a stage was reached, zero when it was not.
func (p *Pod) reached(name string) time.Time {
	for _, s := range p.Stages {
		if s.Name == name {
			return s.At
		}
	}
	return time.Time{}
}
