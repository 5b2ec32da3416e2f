package namespace

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// TestDeletion empties a namespace of the real API: what is held by a finalizer
// is named in the conditions, and when it is let go the namespace goes too.
func TestDeletion(t *testing.T) {
	mgr, err := ctrl.NewManager(apiservertest.Start(t), ctrl.Options{Scheme: scheme.Scheme, Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Setup(mgr, record.NewFakeRecorder(99)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	api := mgr.GetAPIReader()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := mgr.GetClient()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	do(c.Create(ctx, namespace))
	do(c.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "n"}}))
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "n", Finalizers: []string{"example.com/hold"}}}
	do(c.Create(ctx, held))
	elsewhere := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default"}}
	do(c.Create(ctx, elsewhere))

	do(c.Delete(ctx, namespace))
	eventually(t, func() bool {
		do(api.Get(ctx, client.ObjectKey{Name: "n"}, namespace))
		for _, c := range namespace.Status.Conditions {
			if c.Type == corev1.NamespaceFinalizersRemaining && c.Status == corev1.ConditionTrue {
				return c.Message == "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
			}
		}
		return false
	})
	if err := api.Get(ctx, client.ObjectKey{Namespace: "n", Name: "s"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Secret is still there: %v", err)
	}
	do(api.Get(ctx, client.ObjectKeyFromObject(held), held))
	held.Finalizers = nil
	do(c.Update(ctx, held))
	eventually(t, func() bool { return apierrors.IsNotFound(api.Get(ctx, client.ObjectKey{Name: "n"}, namespace)) })
	do(api.Get(ctx, client.ObjectKeyFromObject(elsewhere), elsewhere))
}

// eventually waits until something is true, for half a minute at most.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatal("it did not come true")
		case <-tick.C:
		}
	}
}
