package endpointmirror

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/controllertest"
)

// TestAgainstAPI follows hand-made Endpoints on the real API server.
func TestAgainstAPI(t *testing.T) {
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(99)) })
	becomes := func(want string) {
		t.Helper()
		controllertest.Eventually(t, "the slices are "+want, func() bool {
			var list discoveryv1.EndpointSliceList
			if err := c.List(t.Context(), &list, client.InNamespace("default"), client.MatchingLabels{discoveryv1.LabelServiceName: "db"}); err != nil {
				t.Fatal(err)
			}
			var all []*discoveryv1.EndpointSlice
			for i := range list.Items {
				all = append(all, &list.Items[i])
			}
			return told(all) == want
		})
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	meta := metav1.ObjectMeta{Namespace: "default", Name: "db"}
	do(c.Create(t.Context(), &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 5432}}}}))
	endpoints := &corev1.Endpoints{ObjectMeta: meta, Subsets: []corev1.EndpointSubset{{Addresses: addresses("192.0.2.1"), Ports: []corev1.EndpointPort{{Port: 5432}}}}}
	do(c.Create(t.Context(), endpoints))
	becomes("IPv4 =5432/TCP 192.0.2.1:true")
	endpoints.Subsets[0].Addresses[0].IP = "192.0.2.2"
	do(c.Update(t.Context(), endpoints))
	becomes("IPv4 =5432/TCP 192.0.2.2:true")
	do(c.Delete(t.Context(), endpoints))
	becomes("")
}
