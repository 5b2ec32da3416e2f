package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/api/v1alpha1"
)

// future is a Snapshot that a forecast may change: its objects are copied
// before they are.
type future struct {
	Snapshot
	forecast Forecast
	room     Room
	made     int
	homes    map[types.UID]bool // pods that have a node
	fresh    map[types.UID]bool // pods that the forecast has made
	instead  string             // a step that makes it another rollout
}

func newFuture(s Snapshot, room Room) *future {
	f := &future{Snapshot: s, room: room, homes: map[types.UID]bool{}, fresh: map[types.UID]bool{}}
	f.Deployment = s.Deployment.DeepCopy()
	f.ReplicaSets = slices.Clone(s.ReplicaSets)
	f.Pods = make(map[types.UID][]*corev1.Pod, len(s.Pods))
	for owner, pods := range s.Pods {
		f.Pods[owner] = slices.Clone(pods)
		for _, pod := range pods {
			if pod.Spec.NodeName != "" {
				f.homes[pod.UID] = true
			}
		}
	}
	f.forecast.Budget = BudgetOf(s.Deployment)
	_, f.forecast.LeastAvailable = f.count()
	return f
}

// rounds bounds a forecast: no rollout takes more decisions than its pods change.
func (f *future) rounds() int {
	n := int(f.forecast.Budget.MaxTotal())
	for _, pods := range f.Pods {
		n += len(pods)
	}
	for _, rs := range f.ReplicaSets {
		n += int(replicasOf(rs))
	}
	return 4*n + 20
}

// carryOut does the steps of a plan and returns the moves among them.
func (f *future) carryOut(steps []Step) Wave {
	var wave Wave
	wanted := &f.Deployment.Spec.Template
	for _, step := range steps {
		switch step := step.(type) {
		case Create:
			f.made++
			rs := step.ReplicaSet.DeepCopy()
			rs.UID = types.UID(fmt.Sprintf("forecast-set-%d", f.made))
			rs.CreationTimestamp.Time = f.Now
			f.ReplicaSets = append(f.ReplicaSets, rs)
			if replicasOf(rs) > 0 {
				wave.move(Move{Set: rs.Name, New: true, To: replicasOf(rs), Why: step.Why})
			}
		case Scale:
			rs := f.edit(step.Name, func(rs *appsv1.ReplicaSet) {
				rs.Spec.Replicas = &step.To
				rs.Annotations = with(rs.Annotations, AnnotationDesiredReplicas, fmt.Sprint(step.Desired))
				rs.Annotations[AnnotationMaxReplicas] = fmt.Sprint(step.Max)
			})
			if step.From != step.To {
				wave.move(Move{Set: step.Name, New: SameTemplate(&rs.Spec.Template, wanted), From: step.From, To: step.To, Why: step.Why})
			}
		case Describe:
			f.edit(step.ReplicaSet.Name, func(rs *appsv1.ReplicaSet) {
				rs.Spec.MinReadySeconds = step.MinReadySeconds
				for k, v := range step.Annotations {
					rs.Annotations = with(rs.Annotations, k, v)
				}
			})
		case Adopt:
			f.edit(step.ReplicaSet.Name, func(rs *appsv1.ReplicaSet) {
				rs.OwnerReferences = append(rs.OwnerReferences, *metav1.NewControllerRef(f.Deployment, appsv1.SchemeGroupVersion.WithKind("Deployment")))
			})
		case Release:
			f.drop(step.ReplicaSet)
		case Delete:
			f.drop(step.ReplicaSet)
		case SetRevision:
			f.Deployment.Annotations = with(without(f.Deployment.Annotations, step.Drop...), AnnotationRevision, step.Revision)
			if step.Cause != nil {
				f.Deployment.Annotations[v1alpha1.AnnotationNotedCause] = *step.Cause
			}
		case GiveUp:
			for k, v := range step.Note() {
				f.Deployment.Annotations = with(f.Deployment.Annotations, k, v)
			}
		case SetStatus:
			f.Deployment.Status = step.Status
		default:
			f.instead = step.String()
		}
	}
	return wave
}

// edit changes a copy of a set in place of the set.
func (f *future) edit(name string, change func(*appsv1.ReplicaSet)) *appsv1.ReplicaSet {
	i := slices.IndexFunc(f.ReplicaSets, func(rs *appsv1.ReplicaSet) bool { return rs.Name == name })
	rs := f.ReplicaSets[i].DeepCopy()
	change(rs)
	f.ReplicaSets[i] = rs
	return rs
}

// drop forgets a set. Its pods keep their places on the nodes.
func (f *future) drop(set *appsv1.ReplicaSet) {
	f.ReplicaSets = slices.DeleteFunc(f.ReplicaSets, func(rs *appsv1.ReplicaSet) bool { return rs.UID == set.UID })
	delete(f.Pods, set.UID)
}

// letGo makes each set have as many active pods as it should, as its controller
// would: what serves least is told to stop. A set that is being deleted is gone,
// and its pods stop.
func (f *future) letGo() {
	for _, rs := range f.ReplicaSets {
		var active []*corev1.Pod
		for _, pod := range f.Pods[rs.UID] {
			if StateOf(pod).Active {
				active = append(active, pod)
			}
		}
		want := int(replicasOf(rs))
		if rs.DeletionTimestamp != nil {
			want = 0
		}
		for n := len(active); n < want; n++ {
			f.made++
			id := fmt.Sprintf("forecast-pod-%d", f.made)
			pod := &corev1.Pod{Spec: rs.Spec.Template.Spec}
			pod.Name, pod.Namespace, pod.UID, pod.Labels = id, rs.Namespace, types.UID(id), rs.Spec.Template.Labels
			pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
			pod.CreationTimestamp.Time = f.Now
			f.fresh[pod.UID] = true
			f.Pods[rs.UID] = append(f.Pods[rs.UID], pod)
		}
		if len(active) > want {
			f.tellToStop(rs.UID, active, len(active)-want)
		}
	}
	f.ReplicaSets = slices.DeleteFunc(f.ReplicaSets, func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
}

// tellToStop marks n of a set's active pods: those without a node first, then
// those that are not ready, then the youngest.
func (f *future) tellToStop(owner types.UID, active []*corev1.Pod, n int) {
	rank := make(map[*corev1.Pod]int, len(active))
	for _, pod := range active {
		switch {
		case !f.homes[pod.UID]:
		case !StateOf(pod).Ready:
			rank[pod] = 1
		default:
			rank[pod] = 2
		}
	}
	slices.SortStableFunc(active, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(rank[a], rank[b]), b.CreationTimestamp.Compare(a.CreationTimestamp.Time))
	})
	going := map[*corev1.Pod]bool{}
	for _, pod := range active[:n] {
		going[pod] = true
	}
	for i, pod := range f.Pods[owner] {
		if going[pod] {
			stopped := *pod
			stopped.DeletionTimestamp = &stopped.CreationTimestamp
			f.Pods[owner][i] = &stopped
		}
	}
}

// place looks for nodes for the active pods that have none, and returns how many
// find none.
func (f *future) place() (homeless int32) {
	f.forecast.Homeless = nil
	for _, rs := range f.ReplicaSets {
		for _, pod := range f.Pods[rs.UID] {
			if f.homes[pod.UID] || !StateOf(pod).Active {
				continue
			}
			if !f.room.Place(pod) {
				f.forecast.Homeless = append(f.forecast.Homeless, pod)
				homeless++
				continue
			}
			f.homes[pod.UID] = true
		}
	}
	return homeless
}

// stop takes away the pods that were told to stop, and returns how many.
func (f *future) stop() (n int32) {
	for owner, pods := range f.Pods {
		f.Pods[owner] = leave(f.room, pods)
		n += int32(len(pods) - len(f.Pods[owner]))
	}
	return n
}

// leave takes the pods that were told to stop out of a list and out of the room.
func leave(room Room, pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(pods, func(pod *corev1.Pod) bool {
		if pod.DeletionTimestamp != nil {
			room.Leave(pod.UID)
		}
		return pod.DeletionTimestamp != nil
	})
}

// running is the status of a pod that is ready since a time.
func running(since time.Time) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(since)}}}
}

// start makes the pods that have a node available, and returns how many were not.
// Pods of old sets that are there already stay as they are.
func (f *future) start() (n int32) {
	wait := time.Duration(f.Deployment.Spec.MinReadySeconds) * time.Second
	wanted := &f.Deployment.Spec.Template
	for _, rs := range f.ReplicaSets {
		isNew := SameTemplate(&rs.Spec.Template, wanted)
		for i, pod := range f.Pods[rs.UID] {
			state := StateOf(pod)
			at, ready := state.AvailableAt(f.Deployment.Spec.MinReadySeconds)
			if !isNew && !f.fresh[pod.UID] || !state.Active || !f.homes[pod.UID] || ready && !at.After(f.Now) {
				continue
			}
			if !ready {
				started := *pod
				started.Status = running(f.Now)
				f.Pods[rs.UID][i] = &started
			}
			n++
		}
	}
	if n > 0 {
		f.Now = f.Now.Add(wait)
	}
	return n
}

// waitForOld lets time pass until the next pod that is ready is available, and
// says whether there was one.
func (f *future) waitForOld() bool {
	var next time.Time
	for _, rs := range f.ReplicaSets {
		_, at := Count(f.Pods[rs.UID], f.Deployment.Spec.MinReadySeconds, f.Now)
		next = earlier(next, at)
	}
	if next.IsZero() {
		return false
	}
	f.Now = next
	return true
}

// count returns how many pods are asked for, and how many active ones are
// available.
func (f *future) count() (asked, available int32) {
	for _, rs := range f.ReplicaSets {
		asked += replicasOf(rs)
		counts, _ := Count(f.Pods[rs.UID], f.Deployment.Spec.MinReadySeconds, f.Now)
		available += counts.Available
	}
	return asked, available
}

// end returns the forecast once nothing moves any more.
func (f *future) end(waiting string) Forecast {
	out := f.forecast
	d, err := newDraft(f.Snapshot)
	switch {
	case f.instead != "":
		out.Instead = f.instead
	case err != nil:
		out.Stuck = waiting
	case d.complete():
		out.Complete = true
	case f.Deployment.Spec.Paused:
		out.Stuck = "the Deployment to be resumed: it is paused"
	default:
		return out.stuckOn(waiting)
	}
	return out
}
