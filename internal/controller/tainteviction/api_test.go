package tainteviction

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/controllertest"
)

// TestAgainstAPI: a node that is not reachable loses the pod that does not
// tolerate it and keeps the other, and both say why.
func TestAgainstAPI(t *testing.T) {
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(99)) })
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"lost", "well"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		do(c.Create(t.Context(), node))
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		do(c.Status().Update(t.Context(), node))
	}
	now := int64(0)
	pod := func(name string, seconds *int64) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
			NodeName: "lost", Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Tolerations: []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}},
		}}
		do(c.Create(t.Context(), p))
		return p
	}
	goes, stays := pod("goes", &now), pod("stays", nil)
	var node corev1.Node
	do(c.Get(t.Context(), client.ObjectKey{Name: "lost"}, &node))
	node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}
	do(c.Update(t.Context(), &node))
	controllertest.Eventually(t, "the pod is being deleted", func() bool {
		do(c.Get(t.Context(), client.ObjectKeyFromObject(goes), goes))
		return goes.DeletionTimestamp != nil
	})
	if !slices.ContainsFunc(goes.Status.Conditions, func(c corev1.PodCondition) bool { return c.Reason == "DeletionByTaintManager" }) || goes.Status.Reason != "NodeLost" {
		t.Errorf("its status does not say why: %+v", goes.Status)
	}
	do(c.Get(t.Context(), client.ObjectKeyFromObject(stays), stays))
	if stays.DeletionTimestamp != nil {
		t.Error("the pod that tolerates it is being deleted")
	}
}
