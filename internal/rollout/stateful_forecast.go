package rollout

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// StatefulForecastOf plays the rollout of a StatefulSet to its end, as ForecastOf
// does that of a Deployment: it carries out what DecideStateful says on a copy of
// what is. A wave is all that happens before pods start; its moves are those of
// the revisions. Objects made have UIDs that begin with "forecast-".
func StatefulForecastOf(s StatefulSnapshot, room Room) Forecast {
	f := newStatefulFuture(s, room)
	var wave Wave
	for range f.rounds() {
		plan := DecideStateful(f.StatefulSnapshot)
		acted := f.carryOut(plan.Steps, &wave)
		early := f.place()
		asked, available := f.count()
		f.forecast.measure(&wave, asked, available)
		stopping := f.stop()
		wave.Stopping += stopping
		wave.Homeless = f.place()
		wave.Late += early - wave.Homeless
		starting := f.start()
		if wave.Starting = starting; starting > 0 {
			f.forecast.Waits++
			if wave.Stopping > 0 {
				f.forecast.StopWaits++
			}
		}
		if len(wave.Moves) > 0 && (starting > 0 || !acted && stopping == 0 || f.instead != "") {
			_, wave.Available = f.count()
			f.forecast.Waves = append(f.forecast.Waves, wave)
			wave = Wave{}
		}
		switch {
		case f.instead != "":
			return f.end("")
		case acted || stopping+starting > 0:
		case !plan.WakeAt.After(f.Now):
			return f.end(plan.Waiting)
		default:
			f.Now = plan.WakeAt
		}
	}
	return f.end("an end: it goes on and on")
}

// statefulFuture is a snapshot that a forecast may change: its objects are copied
// before they are.
type statefulFuture struct {
	StatefulSnapshot
	forecast Forecast
	room     Room
	made     int
	homes    map[types.UID]bool // pods that have a node
	instead  string             // a step that makes it another rollout
}

func newStatefulFuture(s StatefulSnapshot, room Room) *statefulFuture {
	f := &statefulFuture{StatefulSnapshot: s, room: room, homes: map[types.UID]bool{}}
	f.Pods, f.Revisions, f.Claims = slices.Clone(s.Pods), slices.Clone(s.Revisions), slices.Clone(s.Claims)
	for _, pod := range f.Pods {
		if pod.Spec.NodeName != "" {
			f.homes[pod.UID] = true
		}
	}
	_, replicas := ordinalsOf(s.Set)
	f.forecast.Budget = Budget{Replicas: replicas, Unavailable: min(maxUnavailableOf(s.Set), replicas)}
	_, f.forecast.LeastAvailable = f.count()
	return f
}

// rounds bounds a forecast: each pod is made and deleted a few times at most.
func (f *statefulFuture) rounds() int { return 8*(int(f.forecast.Budget.Replicas)+len(f.Pods)) + 20 }

// carryOut does the steps of a plan, adds its moves to a wave, and says whether a
// step but that of the status was done.
func (f *statefulFuture) carryOut(steps []Step, wave *Wave) (acted bool) {
	for _, step := range steps {
		acted = true
		switch step := step.(type) {
		case CreatePod:
			f.create(step, wave)
		case CreateClaims:
			f.Claims = append(f.Claims, step.Claims...)
		case DeletePod:
			f.edit(step.Pod.UID, func(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: f.Now} })
			f.move(wave, revisionOfPod(step.Pod), -1, step.Why)
		case AdoptPod:
			f.edit(step.Pod.UID, func(pod *corev1.Pod) {
				pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(f.Set, statefulSetKind)}
			})
		case ReleasePod:
			f.Pods = slices.DeleteFunc(f.Pods, func(pod *corev1.Pod) bool { return pod.UID == step.Pod.UID })
		case LabelPod:
			f.edit(step.Pod.UID, func(pod *corev1.Pod) { pod.Labels = merge(pod.Labels, step.Labels) })
		case CreateRevision:
			made := step.Revision.DeepCopy()
			made.UID = f.uid()
			f.Revisions = append(f.Revisions, made)
		case AdoptRevision, DescribeRevision, DeleteRevision:
			f.rewrite(step)
		case OwnClaim:
			for i, claim := range f.Claims {
				if claim.UID == step.Claim.UID {
					f.Claims[i] = claim.DeepCopy()
					f.Claims[i].OwnerReferences = step.Owners
				}
			}
		case SetStatefulStatus:
			f.Set = f.Set.DeepCopy()
			f.Set.Status = step.Status
		case GiveUp:
			f.Set = f.Set.DeepCopy()
			f.Set.Annotations = merge(f.Set.Annotations, step.Note())
		default:
			f.instead = step.String()
		}
	}
	return acted
}

func (f *statefulFuture) uid() types.UID {
	f.made++
	return types.UID(fmt.Sprint("forecast-", f.made))
}

func (f *statefulFuture) create(step CreatePod, wave *Wave) {
	pod := step.Pod.DeepCopy()
	pod.UID, pod.CreationTimestamp = f.uid(), metav1.Time{Time: f.Now.Add(-failedPause)}
	f.Pods = append(f.Pods, pod)
	for _, claim := range step.Claims {
		made := claim.DeepCopy()
		made.UID = f.uid()
		f.Claims = append(f.Claims, made)
	}
	f.move(wave, revisionOfPod(pod), 1, step.Why)
}

// rewrite changes the copy of a revision.
func (f *statefulFuture) rewrite(step Step) {
	for i, r := range f.Revisions {
		switch step := step.(type) {
		case AdoptRevision:
			if r.Name == step.Revision.Name {
				f.Revisions[i] = r.DeepCopy()
				f.Revisions[i].OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(f.Set, statefulSetKind)}
			}
		case DescribeRevision:
			if r.Name == step.Revision.Name {
				f.Revisions[i] = r.DeepCopy()
				f.Revisions[i].Revision, f.Revisions[i].Annotations = step.Number, merge(r.Annotations, step.Annotations)
			}
		case DeleteRevision:
			if r.Name == step.Revision.Name {
				f.Revisions = slices.Delete(f.Revisions, i, i+1)
				return
			}
		}
	}
}

// edit changes a copy of a pod in place of the pod.
func (f *statefulFuture) edit(uid types.UID, change func(*corev1.Pod)) {
	for i, pod := range f.Pods {
		if pod.UID == uid {
			f.Pods[i] = pod.DeepCopy()
			change(f.Pods[i])
		}
	}
}

// move notes that a revision has gained or lost a pod.
func (f *statefulFuture) move(wave *Wave, revision string, by int32, why string) {
	var now int32
	for _, pod := range f.Pods {
		if revisionOfPod(pod) == revision && StateOf(pod).Active {
			now++
		}
	}
	isNew := slices.ContainsFunc(f.Revisions, func(r *appsv1.ControllerRevision) bool {
		template, err := TemplateOf(r)
		return r.Name == revision && err == nil && SameTemplate(template, &f.Set.Spec.Template)
	})
	wave.move(Move{Set: revision, New: isNew, From: now - by, To: now, Why: why})
}

// place looks for nodes for the active pods that have none, and returns how many
// find none.
func (f *statefulFuture) place() (homeless int32) {
	f.forecast.Homeless = nil
	for _, pod := range f.Pods {
		switch {
		case f.homes[pod.UID] || !StateOf(pod).Active:
		case f.room.Place(pod):
			f.homes[pod.UID] = true
		default:
			f.forecast.Homeless = append(f.forecast.Homeless, pod)
			homeless++
		}
	}
	return homeless
}

// stop takes away the pods that were told to stop, and returns how many.
func (f *statefulFuture) stop() int32 {
	before := len(f.Pods)
	f.Pods = leave(f.room, f.Pods)
	return int32(before - len(f.Pods))
}

// start makes the pods that have a node available, and returns how many were not.
// A pod that fails for good stays as it is.
func (f *statefulFuture) start() (n int32) {
	minReady := f.Set.Spec.MinReadySeconds
	for i, pod := range f.Pods {
		state := StateOf(pod)
		at, ready := state.AvailableAt(minReady)
		if !state.Active || !f.homes[pod.UID] || state.Failing != "" || ready && !at.After(f.Now) {
			continue
		}
		n++
		if !ready {
			f.Pods[i] = pod.DeepCopy()
			f.Pods[i].Status = running(f.Now)
		}
	}
	if n > 0 {
		f.Now = f.Now.Add(time.Duration(minReady) * time.Second)
	}
	return n
}

// count returns how many pods there are that are not on their way out, and how many
// of them are available.
func (f *statefulFuture) count() (asked, available int32) {
	counts, _ := Count(f.Pods, f.Set.Spec.MinReadySeconds, f.Now)
	return counts.Active, counts.Available
}

// end returns the forecast once nothing moves any more.
func (f *statefulFuture) end(waiting string) Forecast {
	out := f.forecast
	d, err := newStatefulDraft(f.StatefulSnapshot)
	switch {
	case f.instead != "":
		out.Instead = f.instead
	case err != nil:
		out.Stuck = waiting
	case d.settled():
		out.Complete = true
	case waiting == "" && !d.rolls():
		return out.stuckOn("somebody to delete the outdated pods: updateStrategy is OnDelete")
	default:
		return out.stuckOn(waiting)
	}
	return out
}

// settled says whether all pods are there, available and of the revision that is
// wanted of them, and no others.
func (d *statefulDraft) settled() bool {
	return len(d.condemned) == 0 && !slices.ContainsFunc(d.slots, func(s *slot) bool { return !s.available || s.outdated() })
}
