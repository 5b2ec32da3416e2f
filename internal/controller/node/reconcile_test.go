package node

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"windlass.dev/windlass/internal/controller/loop"
)

// TestDeletedNodeIsSentNothing: the pods of a node that is deleted are not ready
// from then on, those of others stay as they are.
func TestDeletedNodeIsSentNothing(t *testing.T) {
	pod := func(name, node string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	}
	c := fake.NewClientBuilder().WithStatusSubresource(&corev1.Pod{}).WithObjects(pod("lost", "gone"), pod("stays", "there")).Build()
	r := &reconciler{client: c, recorder: record.NewFakeRecorder(10), now: time.Now, vigil: loop.NewVigil(time.Now()), renewals: map[string]renewal{}}
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: "gone"}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]corev1.ConditionStatus{"lost": corev1.ConditionFalse, "stays": corev1.ConditionTrue} {
		var got corev1.Pod
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &got); err != nil {
			t.Fatal(err)
		}
		if got.Status.Conditions[0].Status != want {
			t.Errorf("pod %s is ready: %s, want %s", name, got.Status.Conditions[0].Status, want)
		}
	}
}
