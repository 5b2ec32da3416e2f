package apiserver_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

func TestPodResize(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(apiservertest.Start(t))
	pods := client.CoreV1().Pods("default")
	given := pod("p")
	given.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: apiresource.MustParse("100m")}
	made := must[*corev1.Pod](t)(pods.Create(t.Context(), given, metav1.CreateOptions{}))
	name := made.Spec.Containers[0].Name
	patch := func(how types.PatchType, text string, subresource ...string) (*corev1.Pod, error) {
		return pods.Patch(t.Context(), "p", how, []byte(text), metav1.PatchOptions{FieldManager: "test"}, subresource...)
	}

	// As kubectl patch and kubectl apply do it; nothing but the resources changes.
	got := must[*corev1.Pod](t)(patch(types.StrategicMergePatchType, `{"metadata":{"labels":{"new":"label"}},"spec":{"nodeName":"n","containers":[{"name":"`+name+`","image":"other","resources":{"requests":{"cpu":"200m"},"limits":{"memory":"1Gi"}}}]}}`, "resize"))
	r := got.Spec.Containers[0].Resources
	if r.Requests.Cpu().String() != "200m" || r.Limits.Memory().String() != "1Gi" || got.Generation != made.Generation+1 ||
		got.Labels["new"] != "" || got.Spec.NodeName != "" || got.Spec.Containers[0].Image != made.Spec.Containers[0].Image {
		t.Errorf("got %+v, generation %d after %d", got.Spec, got.Generation, made.Generation)
	}
	got.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = apiresource.MustParse("300m")
	got = must[*corev1.Pod](t)(pods.UpdateResize(t.Context(), "p", got, metav1.UpdateOptions{}))
	if r := got.Spec.Containers[0].Resources.Requests; r.Cpu().String() != "300m" {
		t.Error(r)
	}
	if _, err := patch(types.StrategicMergePatchType, `{"spec":{"containers":[{"name":"`+name+`","resources":{"limits":{"memory":null}}}]}}`, "resize"); err == nil || !strings.Contains(err.Error(), "resource limits cannot be removed") {
		t.Error(err)
	}
	if _, err := patch(types.StrategicMergePatchType, `{"spec":{"containers":[{"name":"`+name+`","resources":{"requests":{"cpu":"1"}}}]}}`); err == nil || !strings.Contains(err.Error(), "pod updates may not change fields other than") {
		t.Error("not by the resize subresource: ", err)
	}
	if _, err := pods.UpdateResize(t.Context(), "nobody", made, metav1.UpdateOptions{}); err == nil {
		t.Error("a pod of another name was resized")
	}
}
