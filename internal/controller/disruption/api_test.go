package disruption

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/controllertest"
)

// TestAgainstAPI: evictions are granted one by one on the real API server, as the
// pods that remain allow.
func TestAgainstAPI(t *testing.T) {
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(99)) })
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	labels := map[string]string{"app": "web"}
	var pods []*corev1.Pod
	for _, name := range []string{"a", "b", "c"} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels},
			Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		do(c.Create(t.Context(), p))
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		do(c.Status().Update(t.Context(), p))
		pods = append(pods, p)
	}
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: ptr.To(intstr.FromInt32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
	}}
	do(c.Create(t.Context(), budget))
	allowed := func(n int32) {
		t.Helper()
		controllertest.Eventually(t, "the budget allows what it should", func() bool {
			do(c.Get(t.Context(), client.ObjectKeyFromObject(budget), budget))
			return budget.Status.ObservedGeneration == budget.Generation && budget.Status.DisruptionsAllowed == n
		})
	}
	allowed(1)
	do(c.SubResource("eviction").Create(t.Context(), pods[0], &policyv1.Eviction{}))
	allowed(0)
	if err := c.SubResource("eviction").Create(t.Context(), pods[1], &policyv1.Eviction{}); !apierrors.IsTooManyRequests(err) {
		t.Errorf("a second eviction: %v, want it refused", err)
	}
	do(c.Patch(t.Context(), budget, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"minAvailable":1}}`))))
	allowed(1)
	do(c.SubResource("eviction").Create(t.Context(), pods[1], &policyv1.Eviction{}))
}
