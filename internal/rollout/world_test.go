package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
)

// world is a cluster that has one Deployment and needs no machine: it carries
// plans out, makes and stops pods as a ReplicaSet controller would, and lets a
// test play the rest.
type world struct {
	stage
	deployment *appsv1.Deployment
	sets       []*appsv1.ReplicaSet
	pods       []*corev1.Pod
}

func newWorld() *world {
	return &world{stage: newStage()}
}

func newDeployment(name string, replicas int32, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"run": name}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"run": name}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: image}}},
			},
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge:       ptr.To(intstr.FromString("25%")),
					MaxUnavailable: ptr.To(intstr.FromString("25%")),
				},
			},
			RevisionHistoryLimit:    ptr.To(int32(10)),
			ProgressDeadlineSeconds: ptr.To(int32(600)),
		},
	}
}

func (w *world) snapshot() Snapshot {
	byOwner := map[types.UID][]*corev1.Pod{}
	for _, pod := range w.pods {
		if owner := metav1.GetControllerOf(pod); owner != nil {
			byOwner[owner.UID] = append(byOwner[owner.UID], pod)
		}
	}
	return Snapshot{Deployment: w.deployment, ReplicaSets: w.sets, Pods: byOwner, OnFailure: w.onFailure, Now: w.now}
}

// carryOut does a step. It fails, as an API would, when the step rests on
// something that has changed since.
func (w *world) carryOut(step Step) error {
	switch step := step.(type) {
	case Adopt:
		rs := w.find(step.ReplicaSet.UID)
		rs.OwnerReferences = append(rs.OwnerReferences,
			*metav1.NewControllerRef(w.deployment, appsv1.SchemeGroupVersion.WithKind("Deployment")))
	case Release:
		w.find(step.ReplicaSet.UID).OwnerReferences = nil
	case Create:
		if w.set(step.ReplicaSet.Name) != nil {
			return fmt.Errorf("%s exists", step.ReplicaSet.Name)
		}
		w.add(step.ReplicaSet)
	case Describe:
		rs := w.set(step.ReplicaSet.Name)
		rs.Spec.MinReadySeconds = step.MinReadySeconds
		for k, v := range step.Annotations {
			rs.Annotations = with(rs.Annotations, k, v)
		}
	case Scale:
		rs := w.set(step.Name)
		if rs == nil || step.UID != "" && rs.UID != step.UID {
			return fmt.Errorf("%s is gone", step.Name)
		}
		if *rs.Spec.Replicas != step.From {
			return fmt.Errorf("%s has %d replicas, not %d", step.Name, *rs.Spec.Replicas, step.From)
		}
		rs.Spec.Replicas = ptr.To(step.To)
		rs.Generation++
		rs.Annotations = with(rs.Annotations, AnnotationDesiredReplicas, strconv.Itoa(int(step.Desired)))
		rs.Annotations[AnnotationMaxReplicas] = strconv.Itoa(int(step.Max))
		if step.From != step.To {
			rs.Annotations[v1alpha1.AnnotationScaledBecause] = step.Why
		}
	case Delete:
		w.sets = slices.DeleteFunc(w.sets, func(rs *appsv1.ReplicaSet) bool { return rs.UID == step.ReplicaSet.UID })
	case SetRevision:
		w.deployment.Annotations = with(without(w.deployment.Annotations, step.Drop...), AnnotationRevision, step.Revision)
		if step.Cause != nil {
			w.deployment.Annotations[v1alpha1.AnnotationNotedCause] = *step.Cause
		}
	case Rollback:
		w.edit(func(d *appsv1.Deployment) {
			d.Annotations = merged(d.Annotations, step.Note())
			d.Spec.Template = step.Template
		})
	case Pause:
		w.edit(func(d *appsv1.Deployment) {
			d.Annotations = merged(d.Annotations, step.Note())
			d.Spec.Paused = true
		})
	case GiveUp:
		w.deployment.Annotations = merged(w.deployment.Annotations, step.Note())
	case SetStatus:
		w.deployment.Status = step.Status
	default:
		return fmt.Errorf("no way to do %T", step)
	}
	if event, ok := step.Event(); ok {
		w.events = append(w.events, event.Message)
	}
	return nil
}

// add gives an object of the API server's making to the world.
func (w *world) add(rs *appsv1.ReplicaSet) {
	w.made++
	rs = rs.DeepCopy()
	rs.UID = types.UID(fmt.Sprintf("%s#%d", rs.Name, w.made))
	rs.CreationTimestamp = metav1.NewTime(w.now.Add(time.Duration(w.made)))
	w.sets = append(w.sets, rs)
}

// settle makes each set have the pods it should: new ones are not ready; of
// those to stop, the ones that are not ready go first, then the youngest.
func (w *world) settle() {
	for _, rs := range w.sets {
		active := w.those(rs, func(s PodState) bool { return s.Active })
		slices.SortStableFunc(active, func(a, b *corev1.Pod) int {
			if ra, rb := StateOf(a).Ready, StateOf(b).Ready; ra != rb {
				if rb {
					return -1
				}
				return 1
			}
			return b.CreationTimestamp.Compare(a.CreationTimestamp.Time)
		})
		for n := len(active); n < int(*rs.Spec.Replicas); n++ {
			w.made++
			w.pods = append(w.pods, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Name:              fmt.Sprintf("%s-%d", rs.Name, w.made),
					CreationTimestamp: metav1.NewTime(w.now.Add(time.Duration(w.made))),
					OwnerReferences:   []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))},
				},
				Spec: rs.Spec.Template.Spec,
			})
		}
		for i := 0; i < len(active)-int(*rs.Spec.Replicas); i++ {
			active[i].DeletionTimestamp = ptr.To(metav1.NewTime(w.now))
		}
		rs.Status.ObservedGeneration = rs.Generation
	}
}

// those returns the pods of a set, or of all when rs is nil, in some states.
func (w *world) those(rs *appsv1.ReplicaSet, in func(PodState) bool) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range w.pods {
		if (rs == nil || metav1.IsControlledBy(pod, rs)) && in(StateOf(pod)) {
			out = append(out, pod)
		}
	}
	return out
}

// reap removes the pods that have been told to stop.
func (w *world) reap() int {
	before := len(w.pods)
	w.pods = slices.DeleteFunc(w.pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	return before - len(w.pods)
}

func (w *world) set(name string) *appsv1.ReplicaSet {
	for _, rs := range w.sets {
		if rs.Name == name {
			return rs
		}
	}
	return nil
}

// find returns the set of a UID as it is now, nil when it is gone.
func (w *world) find(uid types.UID) *appsv1.ReplicaSet {
	for _, rs := range w.sets {
		if rs.UID == uid {
			return rs
		}
	}
	return nil
}

func (w *world) byRevision(revision int64) *appsv1.ReplicaSet {
	for _, rs := range w.sets {
		if revisionOf(rs) == revision {
			return rs
		}
	}
	return nil
}

// edit changes the Deployment's spec.
func (w *world) edit(change func(*appsv1.Deployment)) {
	w.deployment = w.deployment.DeepCopy()
	change(w.deployment)
	w.deployment.Generation++
}

func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// undo does what `kubectl rollout undo` does: it brings back the template of a
// set, and its annotations.
func (w *world) undo(to int64) error {
	if to == 0 {
		current, _ := strconv.ParseInt(w.deployment.Annotations[AnnotationRevision], 10, 64)
		for _, rs := range w.sets {
			if r := revisionOf(rs); r < current {
				to = max(to, r)
			}
		}
	}
	rs := w.byRevision(to)
	if rs == nil {
		return fmt.Errorf("no revision %d", to)
	}
	w.edit(func(d *appsv1.Deployment) {
		annotations := map[string]string{AnnotationRevision: d.Annotations[AnnotationRevision]}
		maps.Copy(annotations, without(rs.Annotations, AnnotationRevision, AnnotationRevisionHistory,
			AnnotationDesiredReplicas, AnnotationMaxReplicas))
		d.Annotations = annotations
		d.Spec.Template = withoutHash(rs.Spec.Template.DeepCopy())
	})
	return nil
}

// history shows the sets by revision.
func (w *world) history() string {
	var b strings.Builder
	sets := slices.SortedFunc(slices.Values(w.sets), func(a, b *appsv1.ReplicaSet) int { return int(revisionOf(a) - revisionOf(b)) })
	for _, rs := range sets {
		fmt.Fprintf(&b, "%d %s %s %s", revisionOf(rs), rs.Name, rs.Spec.Template.Spec.Containers[0].Image, w.podsOf(rs))
		if was := rs.Annotations[AnnotationRevisionHistory]; was != "" {
			fmt.Fprintf(&b, " was=%s", was)
		}
		if cause := rs.Annotations[AnnotationChangeCause]; cause != "" {
			fmt.Fprintf(&b, " cause=%q", cause)
		}
		if metav1.GetControllerOf(rs) == nil {
			b.WriteString(" (orphan)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (w *world) podsOf(rs *appsv1.ReplicaSet) string {
	counts, _ := Count(w.those(rs, func(PodState) bool { return true }), rs.Spec.MinReadySeconds, w.now)
	out := fmt.Sprintf("%d/%d available", counts.Available, *rs.Spec.Replicas)
	if counts.Terminating > 0 {
		out += fmt.Sprintf(", %d stopping", counts.Terminating)
	}
	return out
}
