package sim

import (
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// story makes the changes of a Deployment web with a replica set rs.
type story struct{ changes []change }

func (s *story) add(object metav1.Object, gone bool) {
	object.SetResourceVersion(strconv.Itoa(len(s.changes) + 1))
	s.changes = append(s.changes, change{version: uint64(len(s.changes) + 1), gone: gone, object: object})
}

func (s *story) wants(replicas, surge, unavailable int) {
	s.add(&appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Generation: 1},
		Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(replicas)), Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: ptr.To(intstr.FromInt(surge)), MaxUnavailable: ptr.To(intstr.FromInt(unavailable))}}},
	}, false)
}

func owned(name, by string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, UID: types.UID(name), OwnerReferences: []metav1.OwnerReference{{Name: by, UID: types.UID(by), Controller: ptr.To(true)}}}
}

func (s *story) asks(rs string, replicas int) {
	s.add(&appsv1.ReplicaSet{ObjectMeta: owned(rs, "web"), Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To(int32(replicas))}}, false)
}

func (s *story) pod(rs, name, state string) {
	p := &corev1.Pod{ObjectMeta: owned(name, rs)}
	if state != "new" {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	if state == "going" {
		p.DeletionTimestamp = &metav1.Time{}
	}
	s.add(p, state == "gone")
}

// TestMonitorSeesBrokenPromises: each promise, broken, is told; kept, it is not.
func TestMonitorSeesBrokenPromises(t *testing.T) {
	for _, test := range []struct {
		name, broken string
		harmed       string
		tell         func(s *story)
	}{
		{"a surge within its bound", "", "", func(s *story) { s.wants(2, 1, 0); s.asks("a", 2); s.asks("b", 1) }},
		{"a surge beyond", "which made 4 of at most 3", "", func(s *story) { s.wants(2, 1, 0); s.asks("a", 2); s.asks("b", 2) }},
		{"a pod for each need", "", "", func(s *story) {
			s.wants(1, 0, 1)
			s.asks("a", 1)
			s.pod("a", "p", "new")
			s.pod("a", "p", "going")
			s.pod("a", "q", "new")
		}},
		{"two pods for one need", "q was made as number 2 of its set", "", func(s *story) { s.wants(1, 0, 1); s.asks("a", 1); s.pod("a", "p", "new"); s.pod("a", "q", "new") }},
		{"one fewer than may be", "", "", func(s *story) {
			s.wants(2, 0, 1)
			s.asks("a", 2)
			s.pod("a", "p", "ready")
			s.pod("a", "q", "ready")
			s.pod("a", "p", "going")
		}},
		{"two fewer", "q was deleted while ready, which left 0 available of at least 1", "", func(s *story) {
			s.wants(2, 0, 1)
			s.asks("a", 2)
			s.pod("a", "p", "ready")
			s.pod("a", "q", "ready")
			s.pod("a", "p", "going")
			s.pod("a", "q", "going")
		}},
		{"two fewer, one by the script", "", "p", func(s *story) {
			s.wants(2, 0, 1)
			s.asks("a", 2)
			s.pod("a", "p", "ready")
			s.pod("a", "q", "ready")
			s.pod("a", "p", "gone")
			s.pod("a", "q", "going")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s story
			test.tell(&s)
			m := &monitor{changes: s.changes, disrupted: map[types.UID]bool{types.UID(test.harmed): true}}
			got := strings.Join(m.check(), "\n")
			if test.broken == "" && got != "" || !strings.Contains(got, test.broken) {
				t.Errorf("told %q, want %q", got, test.broken)
			}
		})
	}
}
