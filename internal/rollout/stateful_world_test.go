package rollout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// statefulWorld is a cluster that has one StatefulSet and needs no machine, as
// world is for a Deployment. It refuses what an API would.
type statefulWorld struct {
	stage
	set       *appsv1.StatefulSet
	revisions []*appsv1.ControllerRevision
	pods      []*corev1.Pod // by name, one at most; terminating ones included
	claims    []*corev1.PersistentVolumeClaim
}

var (
	errThere   = errors.New("already exists")
	errChanged = errors.New("changed since it was read")
)

func newStatefulSet(name string) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Generation: 1},
		Spec: appsv1.StatefulSetSpec{
			Replicas:    ptr.To(int32(1)),
			ServiceName: name,
			Selector:    &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: name + ":1"}}},
			},
			PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
				Type:          appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(int32(0))},
			},
			RevisionHistoryLimit: ptr.To(int32(10)),
		},
	}
}

func newStatefulWorld(name string) *statefulWorld {
	return &statefulWorld{stage: newStage(), set: newStatefulSet(name)}
}

func (w *statefulWorld) snapshot() StatefulSnapshot {
	return StatefulSnapshot{Set: w.set, Revisions: w.revisions, Pods: w.pods, Claims: w.claims, OnFailure: w.onFailure, Now: w.now}
}

// carryOut does a step, unless what it rests on has changed.
func (w *statefulWorld) carryOut(step Step) error {
	switch step := step.(type) {
	case CreateClaims:
		w.makeClaims(step.Claims)
	case CreatePod:
		w.makeClaims(step.Claims)
		if w.pod(step.Pod.Name) != nil {
			return errThere
		}
		w.pods = append(w.pods, w.give(step.Pod.DeepCopy(), step.Pod.Name).(*corev1.Pod))
	case DeletePod:
		pod := w.pod(step.Pod.Name)
		if pod == nil || pod.UID != step.Pod.UID {
			return errChanged
		}
		if pod.DeletionTimestamp == nil {
			pod.DeletionTimestamp = ptr.To(metav1.NewTime(w.now))
		}
	case AdoptPod:
		return w.edits(step.Pod, func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(w.set, statefulSetKind)}
		})
	case ReleasePod:
		return w.edits(step.Pod, func(p *corev1.Pod) { p.OwnerReferences = nil })
	case LabelPod:
		return w.edits(step.Pod, func(p *corev1.Pod) { p.Labels = merge(p.Labels, step.Labels) })
	case OwnClaim:
		w.claim(step.Claim.Name).OwnerReferences = step.Owners
	case AdoptRevision:
		w.revision(step.Revision.Name).OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(w.set, statefulSetKind)}
	case CreateRevision:
		if w.revision(step.Revision.Name) != nil {
			return errThere
		}
		w.revisions = append(w.revisions, w.give(step.Revision.DeepCopy(), step.Revision.Name).(*appsv1.ControllerRevision))
	case DescribeRevision:
		r := w.revision(step.Revision.Name)
		if r == nil {
			return errChanged
		}
		r.Revision, r.Annotations = step.Number, merge(r.Annotations, step.Annotations)
	case DeleteRevision:
		w.revisions = slices.DeleteFunc(w.revisions, func(r *appsv1.ControllerRevision) bool { return r.Name == step.Revision.Name })
	case SetStatefulStatus:
		w.set = w.set.DeepCopy()
		w.set.Status = step.Status
	case Rollback:
		w.edit(func(s *appsv1.StatefulSet) {
			s.Annotations = merge(s.Annotations, step.Note())
			s.Spec.Template = step.Template
		})
	case Pause:
		w.edit(func(s *appsv1.StatefulSet) { s.Annotations = merge(s.Annotations, step.Note()) })
	case GiveUp:
		w.edit(func(s *appsv1.StatefulSet) { s.Annotations = merge(s.Annotations, step.Note()) })
	default:
		return fmt.Errorf("no way to do %T", step)
	}
	if event, ok := step.Event(); ok {
		w.events = append(w.events, event.Message)
	}
	return nil
}

// give makes an object one of the API's.
func (w *statefulWorld) give(object metav1.Object, name string) metav1.Object {
	w.made++
	object.SetUID(types.UID(fmt.Sprintf("%s#%d", name, w.made)))
	object.SetCreationTimestamp(metav1.NewTime(w.now.Add(time.Duration(w.made))))
	return object
}

func (w *statefulWorld) edits(pod *corev1.Pod, change func(*corev1.Pod)) error {
	there := w.pod(pod.Name)
	if there == nil || there.UID != pod.UID {
		return errChanged
	}
	change(there)
	return nil
}

func (w *statefulWorld) pod(name string) *corev1.Pod {
	return named(w.pods, name)
}

func (w *statefulWorld) makeClaims(claims []*corev1.PersistentVolumeClaim) {
	for _, claim := range claims {
		if w.claim(claim.Name) == nil {
			w.claims = append(w.claims, w.give(claim.DeepCopy(), claim.Name).(*corev1.PersistentVolumeClaim))
		}
	}
}

func (w *statefulWorld) claim(name string) *corev1.PersistentVolumeClaim {
	return named(w.claims, name)
}

func (w *statefulWorld) revision(name string) *appsv1.ControllerRevision {
	return named(w.revisions, name)
}

func named[T metav1.Object](list []T, name string) (none T) {
	for _, object := range list {
		if object.GetName() == name {
			return object
		}
	}
	return none
}

// edit changes the set's spec.
func (w *statefulWorld) edit(change func(*appsv1.StatefulSet)) {
	w.set = w.set.DeepCopy()
	change(w.set)
	w.set.Generation++
}

// reap removes the pods that were told to stop, and the claims that went with them.
func (w *statefulWorld) reap() (gone int) {
	before := len(w.pods)
	w.pods = slices.DeleteFunc(w.pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	w.claims = slices.DeleteFunc(w.claims, func(claim *corev1.PersistentVolumeClaim) bool {
		return len(claim.OwnerReferences) > 0 && !slices.ContainsFunc(claim.OwnerReferences, func(ref metav1.OwnerReference) bool {
			return ref.UID == w.set.UID || slices.ContainsFunc(w.pods, func(pod *corev1.Pod) bool { return pod.UID == ref.UID })
		})
	})
	return before - len(w.pods)
}

// undo does what `kubectl rollout undo` does: it applies the patch of a revision.
func (w *statefulWorld) undo(to int64) error {
	list := slices.SortedFunc(slices.Values(w.revisions), func(a, b *appsv1.ControllerRevision) int { return int(a.Revision - b.Revision) })
	for i, r := range list {
		if r.Revision == to || to == 0 && i == len(list)-2 {
			template, err := TemplateOf(r)
			if err != nil {
				return err
			}
			w.edit(func(s *appsv1.StatefulSet) { s.Spec.Template = *template })
			return nil
		}
	}
	return fmt.Errorf("no revision %d", to)
}

// numberOf returns the number of the revision that a pod has.
func (w *statefulWorld) numberOf(pod *corev1.Pod) int64 {
	if r := w.revision(revisionOfPod(pod)); r != nil {
		return r.Revision
	}
	return 0
}

// show prints the pods.
func (w *statefulWorld) show() string {
	var b strings.Builder
	pods := slices.SortedFunc(slices.Values(w.pods), func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	for _, pod := range pods {
		state := StateOf(pod)
		word := "not ready"
		switch {
		case pod.DeletionTimestamp != nil:
			word = "stopping"
		case !state.Active:
			word = strings.ToLower(string(pod.Status.Phase))
		case state.Ready:
			word = "ready"
		}
		fmt.Fprintf(&b, "%s revision %d %s %s", pod.Name, w.numberOf(pod), pod.Spec.Containers[0].Image, word)
		if !metav1.IsControlledBy(pod, w.set) {
			b.WriteString(" (not the set's)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (w *statefulWorld) metaNow() metav1.Time { return metav1.NewTime(w.now) }

func mustSelector(set *appsv1.StatefulSet) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		panic(err)
	}
	return selector
}
