package endpointslice

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/controllertest"
)

// TestAgainstAPI follows a pod through its life on the real API server: not
// ready, ready, being deleted, gone.
func TestAgainstAPI(t *testing.T) {
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(99)) })
	ctx := t.Context()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// states is all endpoints of the Service, however many slices there are.
	states := func() string {
		var list discoveryv1.EndpointSliceList
		do(c.List(ctx, &list, client.InNamespace("default"), client.MatchingLabels{discoveryv1.LabelServiceName: "web"}))
		all := fmt.Sprintf("%d slices:", len(list.Items))
		for i := range list.Items {
			for j := range list.Items[i].Endpoints {
				e := &list.Items[i].Endpoints[j]
				all += fmt.Sprintf(" %s %s", e.TargetRef.Name, state(e))
			}
		}
		return all
	}
	becomes := func(want string) {
		t.Helper()
		began := time.Now()
		controllertest.Eventually(t, "the endpoints are "+want, func() bool { return states() == want })
		t.Logf("%v until %s", time.Since(began).Round(100*time.Microsecond), want)
	}
	do(c.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}))
	becomes("1 slices:")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	do(c.Create(ctx, pod))
	setReady := func(ready corev1.ConditionStatus) {
		t.Helper()
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.42.0.9", PodIPs: []corev1.PodIP{{IP: "10.42.0.9"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}
		do(c.Status().Update(ctx, pod))
	}
	setReady(corev1.ConditionFalse)
	becomes("1 slices: a not ready")
	setReady(corev1.ConditionTrue)
	becomes("1 slices: a ready")
	do(c.Delete(ctx, pod))
	becomes("1 slices: a terminating, serving")
	do(c.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	becomes("1 slices:")
}
