package rolloutrecord

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// statefulStage is a StatefulSet that plays, and what this controller remembers.
type statefulStage struct {
	t         *testing.T
	now       time.Time
	key       types.NamespacedName
	set       *appsv1.StatefulSet
	revisions []*appsv1.ControllerRevision
	pods      []*corev1.Pod
	records   []*v1alpha1.RolloutRecord
	memory    *memory
	made      int
}

func newStatefulStage(t *testing.T) *statefulStage {
	s := &statefulStage{t: t, now: time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC), key: types.NamespacedName{Namespace: "default", Name: "db"}}
	s.set = &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default", UID: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "db", Image: "db:1"}}},
			},
		},
	}
	s.memory = newMemory(func() time.Time { return s.now })
	return s
}

// play has the controller of the set make a plan and carry it out, nodes make
// what they must, and this one look, until nothing changes.
func (s *statefulStage) play() {
	s.t.Helper()
	for range 100 {
		plan := rollout.DecideStateful(rollout.StatefulSnapshot{Set: s.set, Revisions: s.revisions, Pods: s.pods, Now: s.now})
		for _, step := range plan.Steps {
			s.carryOut(step)
		}
		changed := len(plan.Steps) > 0
		for _, pod := range slices.Clone(s.pods) {
			s.now = s.now.Add(100 * time.Millisecond)
			switch state := rollout.StateOf(pod); {
			case pod.DeletionTimestamp != nil:
				s.pods = slices.DeleteFunc(s.pods, func(other *corev1.Pod) bool { return other == pod })
				s.memory.seeActive(s.key, pod, false, true)
				s.memory.losePod(s.key, s.revision(pod.Labels[appsv1.StatefulSetRevisionLabel]).UID, pod)
			case !state.Ready:
				s.edit(pod, func(p *corev1.Pod) {
					p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
						{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.now)}}}
				})
			default:
				continue
			}
			changed = true
		}
		s.look()
		if !changed {
			return
		}
	}
	s.t.Fatal("it does not end")
}

func (s *statefulStage) revision(name string) *appsv1.ControllerRevision {
	return s.revisions[slices.IndexFunc(s.revisions, func(r *appsv1.ControllerRevision) bool { return r.Name == name })]
}

func (s *statefulStage) edit(pod *corev1.Pod, change func(*corev1.Pod)) {
	after := pod.DeepCopy()
	change(after)
	s.made++
	after.ResourceVersion = fmt.Sprint(s.made)
	s.pods[slices.Index(s.pods, pod)] = after
	s.memory.seePod(after)
	s.memory.seeActive(s.key, after, rollout.StateOf(after).Active, true)
}

func (s *statefulStage) carryOut(step rollout.Step) {
	s.now = s.now.Add(10 * time.Millisecond)
	switch step := step.(type) {
	case rollout.CreateRevision:
		r := step.Revision.DeepCopy()
		r.UID, r.CreationTimestamp = types.UID("uid-of-"+r.Name), metav1.NewTime(s.now.Truncate(time.Second))
		s.revisions = append(s.revisions, r)
		s.memory.seeRevision(s.key, nil, r, true)
	case rollout.DescribeRevision:
		for i, r := range s.revisions {
			if r.Name == step.Revision.Name {
				after := r.DeepCopy()
				after.Revision = step.Number
				for key, value := range step.Annotations {
					after.Annotations[key] = value
				}
				s.memory.seeRevision(s.key, r, after, false)
				s.revisions[i] = after
			}
		}
	case rollout.CreatePod:
		s.made++
		pod := step.Pod.DeepCopy()
		pod.UID, pod.ResourceVersion = types.UID(fmt.Sprint(pod.Name, "#", s.made)), fmt.Sprint(s.made)
		pod.CreationTimestamp = metav1.NewTime(s.now.Truncate(time.Second))
		s.pods = append(s.pods, pod)
		s.memory.seePod(pod)
		s.memory.seeActive(s.key, pod, true, true)
	case rollout.DeletePod:
		for _, pod := range slices.Clone(s.pods) {
			if pod.UID == step.Pod.UID {
				s.edit(pod, func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.NewTime(s.now)) })
			}
		}
	case rollout.SetStatefulStatus:
		s.set = s.set.DeepCopy()
		s.set.Status = step.Status
	default:
		s.t.Fatalf("no way to do %T", step)
	}
}

// look decides about the records, and keeps them.
func (s *statefulStage) look() {
	f := Facts{Pods: map[types.UID][]Pod{}, Records: slices.Clone(s.records)}
	view := rollout.ViewOf(s.set, s.revisions, s.pods)
	f.Deployment, f.ReplicaSets = view.Deployment, view.Sets
	for _, pod := range view.Pods {
		of := metav1.GetControllerOf(pod).UID
		f.Pods[of] = append(f.Pods[of], Pod{Pod: pod})
	}
	s.memory.tell(s.key, &f)
	plan := Decide(f)
	s.memory.keep(s.key, plan)
	if plan.Create != nil {
		s.records = append(s.records, plan.Create)
		s.look()
	}
	for _, change := range plan.Statuses {
		for i, record := range s.records {
			if record.Name == change.Record {
				s.records[i] = record.DeepCopy()
				s.records[i].Status = change.Status
				s.memory.wrote(s.key, change.Revision, change.Status)
			}
		}
	}
}

// TestStatefulRecord: the record of a StatefulSet's rollout names its revisions,
// tells of both pods of each name, and of each step; and an undo has one of its own.
func TestStatefulRecord(t *testing.T) {
	s := newStatefulStage(t)
	s.play()
	s.set.Spec.Template.Spec.Containers[0].Image = "db:2"
	s.set.Generation++
	s.play()
	s.set.Spec.Template.Spec.Containers[0].Image = "db:1"
	s.set.Generation++
	s.play()
	if len(s.records) != 3 {
		t.Fatalf("%d records, want 3", len(s.records))
	}
	second := s.records[1]
	if spec := second.Spec; spec.Target.Kind != "StatefulSet" || spec.Revision != 2 || spec.From.Revision != 1 || spec.Cause != "image db 1 → 2" ||
		second.OwnerReferences[0].Kind != "ControllerRevision" || spec.Strategy.MaxUnavailable != 1 || spec.Strategy.MaxSurge != 0 {
		t.Errorf("record %s", describe(second))
	}
	st := second.Status
	if st.Phase != v1alpha1.RolloutCompleted || st.Reason != ReasonNewRevisionAvailable || st.UpdatedReplicas != 2 {
		t.Errorf("status %s", describeStatus(&st))
	}
	lives := map[string]int{}
	for _, pod := range st.Pods {
		old := pod.Set == second.Spec.From.Name
		if old != (pod.Stopped != nil) || !old && pod.Available == nil {
			t.Errorf("%s of %s: %+v", pod.Name, pod.Set, pod)
		}
		lives[pod.Name]++
	}
	if lives["db-0"] != 2 || lives["db-1"] != 2 {
		t.Errorf("pods %v, want two of each name", lives)
	}
	var steps []string
	for _, step := range st.Steps {
		side := "new"
		if step.Set == second.Spec.From.Name {
			side = "old"
		}
		steps = append(steps, fmt.Sprintf("%s %d to %d: %s", side, step.From, step.To, step.Why))
	}
	if want := []string{"old 2 to 1: pod db-1 is to go", "new 0 to 1: pod db-1 is made", "old 1 to 0: pod db-0 is to go", "new 1 to 2: pod db-0 is made"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	if third := s.records[2]; third.Spec.Revision != 3 || third.Status.Phase != v1alpha1.RolloutCompleted || third.Spec.To.Name != s.records[0].Spec.To.Name {
		t.Errorf("record %s, %s", describe(third), describeStatus(&third.Status))
	}
}

// TestStatefulPartition: a rollout above a partition is complete when there is
// nothing more to update.
func TestStatefulPartition(t *testing.T) {
	s := newStatefulStage(t)
	s.play()
	s.set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(int32(1))}
	s.set.Spec.Template.Spec.Containers[0].Image = "db:2"
	s.set.Generation++
	s.play()
	if st := s.records[len(s.records)-1].Status; len(s.records) != 2 || st.Phase != v1alpha1.RolloutCompleted || st.UpdatedReplicas != 1 {
		t.Errorf("%d records, the last %s", len(s.records), describeStatus(&st))
	}
}
