package namespace

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var deletedAt = time.Unix(1000, 0)

func terminatingNamespace() *corev1.Namespace {
	return &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "n", DeletionTimestamp: &metav1.Time{Time: deletedAt}},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating},
	}
}

func TestPlan(t *testing.T) {
	tests := []struct {
		name     string
		sweep    sweep
		elapsed  time.Duration
		finalize bool
		wake     time.Duration
		why      string
	}{{
		name: "empty", finalize: true, why: "it is empty",
	}, {
		name: "emptied by this sweep", sweep: sweep{Deleted: 2}, wake: firstLook, why: "it was not empty a moment ago",
	}, {
		name:  "pods end gracefully",
		sweep: sweep{Deleted: 2, Remaining: []remains{{Resource: "pods.", Count: 2}}}, elapsed: 2 * time.Second,
		wake: 500 * time.Millisecond, why: "Some resources are remaining: pods. has 2 resource instances",
	}, {
		name: "a finalizer holds",
		sweep: sweep{Remaining: []remains{
			{Resource: "secrets.", Count: 1},
			{Resource: "configmaps.", Count: 3, Finalizers: map[string]int{"a/b": 2}},
		}}, elapsed: time.Hour,
		wake: lastLook, why: "Some content in the namespace has finalizers remaining: a/b in 2 resource instances",
	}, {
		name: "what cannot be discovered is not taken for empty", sweep: sweep{Undiscovered: []string{"x.io/v1: timeout"}},
		wake: firstLook, why: "Discovery failed for some groups, 1 failing: x.io/v1: timeout",
	}, {
		name: "nor what cannot be deleted", sweep: sweep{Failed: []string{"delete pods.: no"}},
		wake: firstLook, why: "Failed to delete all resource types, 1 remaining: delete pods.: no",
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := plan(terminatingNamespace(), test.sweep, deletedAt.Add(test.elapsed))
			if got.Finalize != test.finalize || got.WakeAt != test.wake || got.Why != test.why {
				t.Errorf("got finalize %v, wake in %v, why %q", got.Finalize, got.WakeAt, got.Why)
			}
		})
	}
}

func TestConditionsKeepTheirTime(t *testing.T) {
	left := sweep{Remaining: []remains{{Resource: "pods.", Count: 2}}}
	first := conditions(nil, left, deletedAt)
	left.Remaining[0].Count = 1
	second := conditions(first, left, deletedAt.Add(time.Minute))
	if len(second) != 5 {
		t.Fatalf("%d conditions, want Kubernetes' five", len(second))
	}
	for i, c := range second {
		if !c.LastTransitionTime.Time.Equal(deletedAt) {
			t.Errorf("condition %s got a new time without a change of status", c.Type)
		}
		if c.Type == corev1.NamespaceContentRemaining && c.Message == first[i].Message {
			t.Errorf("the message still says %q", c.Message)
		}
	}
	for _, c := range conditions(second, sweep{}, deletedAt.Add(time.Hour)) {
		changed := c.Type == corev1.NamespaceContentRemaining
		if c.Status != corev1.ConditionFalse || c.LastTransitionTime.Time.Equal(deletedAt) == changed {
			t.Errorf("condition %s is %s since %s", c.Type, c.Status, c.LastTransitionTime)
		}
	}
}
