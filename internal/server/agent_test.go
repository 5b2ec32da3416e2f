package server

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSlimNodes: of another node an agent knows where it is, and whether it lives:
// else a drain would wait for the proxy of a machine that is gone.
func TestSlimNodes(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Status: corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure}, {Type: corev1.NodeReady, Status: corev1.ConditionUnknown}},
		Images:     []corev1.ContainerImage{{Names: []string{"httpd:2"}}},
	}}
	for _, own := range []bool{true, false} {
		name := map[bool]string{true: "other", false: "mine"}[own]
		got, err := slimNodes(name)(node.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		is := got.(*corev1.Node).Status
		if len(is.Addresses) != 1 || own != (len(is.Images) == 1) {
			t.Errorf("own %t: %+v", own, is)
		}
		if last := len(is.Conditions) - 1; last < 0 || is.Conditions[last].Type != corev1.NodeReady || is.Conditions[last].Status != corev1.ConditionUnknown {
			t.Errorf("own %t: that it is not heard of is not known: %+v", own, is.Conditions)
		}
	}
}
