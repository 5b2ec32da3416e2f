package foresight

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// rolledOut returns a StatefulSet with three pods of one revision, on a node with
// room, and the facts about it but for what it becomes.
func rolledOut() (*appsv1.StatefulSet, Facts) {
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default", UID: "db", Generation: 1},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To(int32(3)), ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "db", Image: "db:1", Ports: []corev1.ContainerPort{{ContainerPort: 1}}}}},
			},
			PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
				Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(int32(0))},
			},
		},
		Status: appsv1.StatefulSetStatus{ObservedGeneration: 1, CurrentRevision: "db-a", UpdateRevision: "db-a", Replicas: 3, UpdatedReplicas: 3, CurrentReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 3},
	}
	owner := *metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))
	f := Facts{Namespace: "default", Name: "db", Now: time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)}
	f.Nodes = []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}}
	f.Nodes[0].Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")}
	f.Nodes[0].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for i := range 3 {
		f.Pods = append(f.Pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprint("db-", i), Namespace: "default", UID: types.UID(fmt.Sprint("db-", i)), OwnerReferences: []metav1.OwnerReference{owner},
				Labels: map[string]string{"app": "db", appsv1.StatefulSetRevisionLabel: "db-a", appsv1.StatefulSetPodNameLabel: fmt.Sprint("db-", i), appsv1.PodIndexLabel: fmt.Sprint(i)},
			},
			Spec:   corev1.PodSpec{NodeName: "n1", Containers: set.Spec.Template.Spec.Containers},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		})
	}
	template, _ := json.Marshal(map[string]any{"spec": map[string]any{"template": set.Spec.Template}})
	revision := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "db-a", Namespace: "default", UID: "rev", OwnerReferences: []metav1.OwnerReference{owner}, Labels: set.Spec.Template.Labels}, Revision: 1}
	revision.Data.Raw = template
	f.Stateful = &Stateful{Before: set, Revisions: []*appsv1.ControllerRevision{revision}}
	return set, f
}

// TestStatefulForesight: what a change of a StatefulSet does, in its steps.
func TestStatefulForesight(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*appsv1.StatefulSet)
		kind   ChangeKind
		says   []string
		blocks string
	}{
		{"template", func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "db:2" }, KindRollout, []string{
			"statefulset.apps/db in namespace default: a rollout, revision 2",
			"maxUnavailable 1: at least 2 of 3 pods",
			"1. scale old from 3 to 2, new from 0 to 1; wait until 1 pod is available",
			"3. scale old from 1 to 0, new from 2 to 3",
		}, ""},
		{"partition", func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].Image = "db:2"
			s.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To(int32(2))
		}, KindRollout, []string{"partition 2: the lowest 2 pods stay as they are", "1. scale old from 3 to 2, new from 0 to 1"}, ""},
		{"scale", func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To(int32(1)) }, KindScale, nil, ""},
		{"edit", func(s *appsv1.StatefulSet) { s.Spec.RevisionHistoryLimit = ptr.To(int32(3)) }, KindEdit, nil, ""},
		{"nothing", func(*appsv1.StatefulSet) {}, KindNone, nil, ""},
		{"by hand", func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].Image = "db:2"
			s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
		}, KindRollout, nil, "it would wait for somebody to delete the outdated pods"},
		{"too large", func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To(int32(20)) }, KindScale, nil, "no node has room for 1 pod"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, facts := rolledOut()
			after := before.DeepCopy()
			test.change(after)
			view := StatefulFacts(before, after, nil)
			facts.Before, facts.After, facts.Stateful.After = view.Before, view.After, after
			pods := len(facts.Pods)
			f := Of(facts)
			text := f.String()
			if f.Kind != test.kind {
				t.Errorf("kind %s, want %s\n%s", f.Kind, test.kind, text)
			}
			for _, says := range test.says {
				if !strings.Contains(text, says) {
					t.Errorf("it does not say %q:\n%s", says, text)
				}
			}
			if (len(f.Blocks) > 0) != (test.blocks != "") || test.blocks != "" && !strings.Contains(f.Blocks[0].What, test.blocks) {
				t.Errorf("blocks %+v, want %q", f.Blocks, test.blocks)
			}
			if len(facts.Pods) != pods || before.Spec.Template.Spec.Containers[0].Image != "db:1" {
				t.Error("the facts have changed")
			}
		})
	}
}
