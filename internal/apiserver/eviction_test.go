package apiserver_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// TestEviction: a budget lets as many pods go as its status says, one at a time,
// and what is no disruption passes it by.
func TestEviction(t *testing.T) {
	client, _ := start(t)
	pods, budgets := client.CoreV1().Pods("default"), client.PolicyV1().PodDisruptionBudgets("default")
	running := func(name string, ready corev1.ConditionStatus) {
		p := pod(name)
		p.Labels = map[string]string{"app": "web"}
		p.Spec.NodeName = "n"
		p = must[*corev1.Pod](t)(pods.Create(t.Context(), p, metav1.CreateOptions{}))
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
		must[*corev1.Pod](t)(pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{}))
	}
	for _, name := range []string{"a", "b", "c"} {
		running(name, corev1.ConditionTrue)
	}
	running("sick", corev1.ConditionFalse)
	budget := must[*policyv1.PodDisruptionBudget](t)(budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}, metav1.CreateOptions{}))
	evict := func(name string, dry ...string) error {
		return client.CoreV1().RESTClient().Post().MaxRetries(0). // else the client waits and tries again
										Namespace("default").Resource("pods").Name(name).SubResource("eviction").
										Body(&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, DeleteOptions: &metav1.DeleteOptions{DryRun: dry}}).
										Do(t.Context()).Error()
	}
	refused := func(err error, why string) {
		t.Helper()
		if !apierrors.IsTooManyRequests(err) || !strings.Contains(err.(*apierrors.StatusError).ErrStatus.Details.Causes[0].Message, why) {
			t.Errorf("%v, want a refusal because %q", err, why)
		}
	}
	refused(evict("a"), "The disruption budget web is still being processed by the server.")
	budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, DisruptionsAllowed: 1, CurrentHealthy: 3, DesiredHealthy: 2, ExpectedPods: 4}
	must[*policyv1.PodDisruptionBudget](t)(budgets.UpdateStatus(t.Context(), budget, metav1.UpdateOptions{}))
	if err := evict("a", metav1.DryRunAll); err != nil {
		t.Error(err)
	}
	if p := must[*corev1.Pod](t)(pods.Get(t.Context(), "a", metav1.GetOptions{})); p.DeletionTimestamp != nil || len(p.Status.Conditions) != 1 {
		t.Error("a dry run has changed the pod")
	}
	if err := evict("a"); err != nil {
		t.Fatal(err)
	}
	p := must[*corev1.Pod](t)(pods.Get(t.Context(), "a", metav1.GetOptions{}))
	if last := p.Status.Conditions[len(p.Status.Conditions)-1]; p.DeletionTimestamp == nil || last.Type != corev1.DisruptionTarget || last.Reason != "EvictionByEvictionAPI" {
		t.Errorf("the evicted pod: deletion %v, %+v", p.DeletionTimestamp, last)
	}
	budget = must[*policyv1.PodDisruptionBudget](t)(budgets.Get(t.Context(), "web", metav1.GetOptions{}))
	if _, noted := budget.Status.DisruptedPods["a"]; !noted || budget.Status.DisruptionsAllowed != 0 {
		t.Errorf("the budget after it: %+v", budget.Status)
	}
	refused(evict("b"), "The disruption budget web needs 2 healthy pods and has 3 currently")
	if err := evict("sick"); err != nil { // the budget is met without it
		t.Error(err)
	}
	if err := evict("a"); err != nil { // it is going already
		t.Error(err)
	}
	must[*policyv1.PodDisruptionBudget](t)(budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{}}}, metav1.CreateOptions{}))
	if err := evict("b"); !apierrors.IsInternalError(err) {
		t.Errorf("with two budgets: %v", err)
	}
}
