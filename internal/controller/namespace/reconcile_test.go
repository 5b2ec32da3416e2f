package namespace

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/controllertest"
)

// TestDeletion empties a namespace of the real API: what is held by a finalizer
// is named in the conditions, and when it is let go the namespace goes too.
func TestDeletion(t *testing.T) {
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(99)) })
	ctx := t.Context()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	do(c.Create(ctx, namespace))
	do(c.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "n"}}))
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "n", Finalizers: []string{"example.com/hold"}}}
	do(c.Create(ctx, held))
	elsewhere := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default"}}
	do(c.Create(ctx, elsewhere))

	do(c.Delete(ctx, namespace))
	controllertest.Eventually(t, "the namespace says what holds it", func() bool {
		do(c.Get(ctx, client.ObjectKey{Name: "n"}, namespace))
		for _, c := range namespace.Status.Conditions {
			if c.Type == corev1.NamespaceFinalizersRemaining && c.Status == corev1.ConditionTrue {
				return c.Message == "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
			}
		}
		return false
	})
	if err := c.Get(ctx, client.ObjectKey{Namespace: "n", Name: "s"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Secret is still there: %v", err)
	}
	do(c.Get(ctx, client.ObjectKeyFromObject(held), held))
	held.Finalizers = nil
	do(c.Update(ctx, held))
	controllertest.Eventually(t, "the namespace is gone", func() bool {
		return apierrors.IsNotFound(c.Get(ctx, client.ObjectKey{Name: "n"}, namespace))
	})
	do(c.Get(ctx, client.ObjectKeyFromObject(elsewhere), elsewhere))
}
