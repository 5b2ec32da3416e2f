package disruption

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// TestUnknownController: while the cache shows pods and not yet all of their
// controllers, nobody may go: there could be more pods that are wanted.
func TestUnknownController(t *testing.T) {
	labels := map[string]string{"app": "web"}
	one := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one", UID: "one"}, Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](3)}}
	two := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "two", UID: "two"}, Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](3)}}
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MaxUnavailable: ptr.To(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels},
	}}
	shown := []client.Object{budget, one}
	for _, set := range []*appsv1.ReplicaSet{one, two} {
		for i := range 3 {
			shown = append(shown, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint(set.Name, i), Labels: labels,
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
			})
		}
	}
	c := fake.NewClientBuilder().WithObjects(shown...).WithStatusSubresource(budget).Build()
	r := &reconciler{client: c, recorder: record.NewFakeRecorder(99), now: time.Now}
	allowed := func() int32 {
		t.Helper()
		key := types.NamespacedName{Namespace: "default", Name: "web"}
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			t.Fatal(err)
		}
		var is policyv1.PodDisruptionBudget
		if err := c.Get(t.Context(), key, &is); err != nil {
			t.Fatal(err)
		}
		return is.Status.DisruptionsAllowed
	}
	if n := allowed(); n != 0 {
		t.Errorf("%d may go while a controller is not known, want 0", n)
	}
	if err := c.Create(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	if n := allowed(); n != 1 {
		t.Errorf("%d may go, want 1", n)
	}
}
