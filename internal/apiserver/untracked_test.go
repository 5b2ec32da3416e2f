package apiserver_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// TestOwnPodsAreUntracked: pods that parts of this process make carry no managed
// fields until somebody applies to them; those that others make do.
func TestOwnPodsAreUntracked(t *testing.T) {
	server := apiservertest.StartIn(t, t.TempDir())
	outside, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	inside, others := kubernetes.NewForConfigOrDie(server.Config), kubernetes.NewForConfigOrDie(outside)

	if theirs := must[*corev1.Pod](t)(others.CoreV1().Pods("default").Create(t.Context(), pod("theirs"), metav1.CreateOptions{})); len(theirs.ManagedFields) == 0 {
		t.Error("a pod made from outside has no managed fields")
	}
	pods := inside.CoreV1().Pods("default")
	ours := must[*corev1.Pod](t)(pods.Create(t.Context(), pod("ours"), metav1.CreateOptions{}))
	ours.Status.Phase = corev1.PodRunning
	if ours = must[*corev1.Pod](t)(pods.UpdateStatus(t.Context(), ours, metav1.UpdateOptions{})); len(ours.ManagedFields) != 0 {
		t.Errorf("a pod made in the process has managed fields: %v", ours.ManagedFields)
	}
	applied := must[*corev1.Pod](t)(others.CoreV1().Pods("default").Patch(t.Context(), "ours", types.ApplyPatchType,
		[]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"ours","labels":{"a":"b"}}}`), metav1.PatchOptions{FieldManager: "me"}))
	if len(applied.ManagedFields) != 2 || applied.Labels["a"] != "b" {
		t.Errorf("applied to: labels %v, managed fields %v, want those of before and of me", applied.Labels, applied.ManagedFields)
	}
}

// TestOwnChangesOfASpecConflictWithNobody: a part of this process rolls a
// Deployment back that a user applies on the server's side. It is the author by a
// name that says so, and the next manifest is applied without a conflict.
func TestOwnChangesOfASpecConflictWithNobody(t *testing.T) {
	server := apiservertest.StartIn(t, t.TempDir())
	run := kubectl(t, server)
	apply := func(image string) {
		t.Helper()
		if output, err := run(strings.Replace(manifest, "httpd:1", image, 1), "apply --server-side -f -"); err != nil {
			t.Fatalf("apply %s: %v\n%s", image, err, output)
		}
	}
	apply("httpd:1")
	apply("httpd:bad")
	deployments := kubernetes.NewForConfigOrDie(server.Config).AppsV1().Deployments("default")
	d := must[*appsv1.Deployment](t)(deployments.Patch(t.Context(), "web", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"annotations":{"noted":"yes"}},"spec":{"paused":true,"template":{"spec":{"containers":[{"name":"main","image":"httpd:1"}]}}}}`),
		metav1.PatchOptions{FieldManager: "deployment-controller"}))
	if author, text := authorIn(t, &d.ObjectMeta); author.User != "windlass" || author.Manager != "deployment-controller" {
		t.Errorf("the author is %s", text)
	}
	for _, entry := range d.ManagedFields {
		if entry.Manager == "deployment-controller" && (!strings.Contains(string(entry.FieldsV1.Raw), "noted") || strings.Contains(string(entry.FieldsV1.Raw), "f:spec")) {
			t.Errorf("the controller owns %s, want its annotation alone", entry.FieldsV1.Raw)
		}
	}
	apply("httpd:2")
}
