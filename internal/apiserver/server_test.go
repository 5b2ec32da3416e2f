package apiserver_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

func TestStartsWithSystemObjects(t *testing.T) {
	began := time.Now()
	config := apiservertest.Start(t)
	t.Logf("ready after %v", time.Since(began))
	client := kubernetes.NewForConfigOrDie(config)
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		if _, err := client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	service, err := client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if service.Spec.ClusterIP != "10.43.0.1" {
		t.Errorf("kubernetes has the address %s", service.Spec.ClusterIP)
	}
}
