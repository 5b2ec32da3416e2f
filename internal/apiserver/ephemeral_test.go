package apiserver_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

func TestEphemeralContainers(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(apiservertest.Start(t))
	pods := client.CoreV1().Pods("default")
	made := must[*corev1.Pod](t)(pods.Create(t.Context(), pod("p"), metav1.CreateOptions{}))

	// As kubectl debug does it; nothing but these containers changes.
	patch := `{"metadata":{"labels":{"new":"label"}},"spec":{"nodeName":"n","ephemeralContainers":[{"name":"look","image":"busybox:1","stdin":true,"targetContainerName":"` + made.Spec.Containers[0].Name + `"}]}}`
	got := must[*corev1.Pod](t)(pods.Patch(t.Context(), "p", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "ephemeralcontainers"))
	if len(got.Spec.EphemeralContainers) != 1 || got.Labels["new"] != "" || got.Spec.NodeName != "" || got.Generation != made.Generation+1 {
		t.Errorf("got %+v, generation %d after %d", got.Spec, got.Generation, made.Generation)
	}
	if look := got.Spec.EphemeralContainers[0]; !look.Stdin || look.TerminationMessagePath == "" || look.ImagePullPolicy != corev1.PullIfNotPresent {
		t.Errorf("without defaults: %+v", look)
	}
	got.Spec.EphemeralContainers = append(got.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "more", Image: "busybox:1"}})
	got = must[*corev1.Pod](t)(pods.UpdateEphemeralContainers(t.Context(), "p", got, metav1.UpdateOptions{}))

	for want, change := range map[string]func(*corev1.Pod){
		`existing ephemeral containers "look" may not be removed`: func(p *corev1.Pod) { p.Spec.EphemeralContainers = p.Spec.EphemeralContainers[1:] },
		`existing ephemeral containers "more" may not be changed`: func(p *corev1.Pod) { p.Spec.EphemeralContainers[1].Image = "other" },
		`spec.ephemeralContainers[2].name: Duplicate value`: func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, *p.Spec.EphemeralContainers[1].DeepCopy())
		},
		"spec.ephemeralContainers[2].targetContainerName: Not found": func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
				EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "x", Image: "busybox:1"}, TargetContainerName: "nobody"})
		},
		"spec.ephemeralContainers[2].lifecycle: Forbidden": func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
				EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "x", Image: "busybox:1", Lifecycle: &corev1.Lifecycle{}}})
		},
	} {
		changed := got.DeepCopy()
		change(changed)
		if _, err := pods.UpdateEphemeralContainers(t.Context(), "p", changed, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	stale := got.DeepCopy()
	stale.ResourceVersion = made.ResourceVersion
	if _, err := pods.UpdateEphemeralContainers(t.Context(), "p", stale, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "the object has been modified") {
		t.Errorf("an old version: %v", err)
	}
	// They come by no other way.
	again := got.DeepCopy()
	again.Spec.EphemeralContainers = nil
	if _, err := pods.Update(t.Context(), again, metav1.UpdateOptions{}); err == nil {
		t.Error("an update of the pod takes ephemeral containers away")
	}
}
