package serviceaccount

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func TestReconcile(t *testing.T) {
	c := fake.NewClientBuilder().WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}).Build()
	r := &reconciler{client: c, rootCA: "PEM"}
	reconcile := func() {
		t.Helper()
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: "a"}}); err != nil {
			t.Fatal(err)
		}
		var config corev1.ConfigMap
		if err := c.Get(t.Context(), types.NamespacedName{Namespace: "a", Name: rootCAName}, &config); err != nil {
			t.Fatal(err)
		}
		if config.Data[rootCAKey] != "PEM" {
			t.Errorf("the certificate is %q", config.Data[rootCAKey])
		}
		var account corev1.ServiceAccount
		if err := c.Get(t.Context(), types.NamespacedName{Namespace: "a", Name: accountName}, &account); err != nil {
			t.Fatal(err)
		}
	}
	reconcile()
	reconcile()

	// Both come back when they are deleted or changed.
	if err := c.Delete(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: accountName}}); err != nil {
		t.Fatal(err)
	}
	changed := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: rootCAName}}
	if err := c.Patch(t.Context(), changed, client.RawPatch(types.MergePatchType, []byte(`{"data":{"ca.crt":"other"}}`))); err != nil {
		t.Fatal(err)
	}
	reconcile()
}
