package endpointslice

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// lagging is a client whose reads of slices show what was there when it froze.
type lagging struct {
	client.WithWatch
	frozen *discoveryv1.EndpointSliceList
}

func newLagging(objects ...client.Object) *lagging {
	l := &lagging{}
	l.WithWatch = fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(objects...).
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if slices, ok := list.(*discoveryv1.EndpointSliceList); ok && l.frozen != nil {
					l.frozen.DeepCopyInto(slices)
					return nil
				}
				return c.List(ctx, list, opts...)
			},
		}).Build()
	return l
}

func (l *lagging) freeze(t *testing.T) {
	t.Helper()
	l.frozen = nil
	now := &discoveryv1.EndpointSliceList{}
	if err := l.List(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	l.frozen = now
}

func (l *lagging) slices(t *testing.T) []discoveryv1.EndpointSlice {
	t.Helper()
	frozen := l.frozen
	l.frozen = nil
	defer func() { l.frozen = frozen }()
	var now discoveryv1.EndpointSliceList
	if err := l.List(t.Context(), &now); err != nil {
		t.Fatal(err)
	}
	return now.Items
}

var key = types.NamespacedName{Namespace: "default", Name: "web"}

func reconcileOnce(t *testing.T, r *reconciler) ctrl.Result {
	t.Helper()
	result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// A cache that never shows our writes must not make us repeat them, nor wait.
func TestStaleCache(t *testing.T) {
	c := newLagging(newService(), newPod("a"))
	r := &reconciler{client: c, recorder: record.NewFakeRecorder(9), memory: newMemory()}
	c.freeze(t) // no slices, ever
	reconcileOnce(t, r)
	if err := c.Create(t.Context(), newPod("b")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if result := reconcileOnce(t, r); result != (ctrl.Result{}) {
			t.Fatalf("asked to come again: %v", result)
		}
	}
	got := c.slices(t)
	if len(got) != 1 || len(got[0].Endpoints) != 2 {
		t.Fatalf("%d slices, want one with both pods", len(got))
	}
}

// Somebody else's change to a slice is put right; when the cache has not shown
// it, the API refuses the write and it is planned again.
func TestForeignChange(t *testing.T) {
	c := newLagging(newService(), newPod("a"))
	r := &reconciler{client: c, recorder: record.NewFakeRecorder(9), memory: newMemory()}
	reconcileOnce(t, r)
	c.freeze(t)
	foreign := c.slices(t)[0]
	foreign.Endpoints = nil
	if err := c.Update(t.Context(), &foreign); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), newPod("b")); err != nil {
		t.Fatal(err)
	}
	if result := reconcileOnce(t, r); result.RequeueAfter == 0 {
		t.Fatal("a refused write was not to be tried again")
	}
	c.frozen = nil // the cache catches up
	reconcileOnce(t, r)
	if got := c.slices(t); len(got) != 1 || len(got[0].Endpoints) != 2 {
		t.Fatalf("%d slices, want one with both pods", len(got))
	}
}

func TestNoSelectorIsLeftAlone(t *testing.T) {
	c := newLagging(newService(func(s *corev1.Service) { s.Spec.Selector = nil }))
	reconcileOnce(t, &reconciler{client: c, recorder: record.NewFakeRecorder(9), memory: newMemory()})
	if got := c.slices(t); len(got) != 0 {
		t.Fatalf("made %d slices for a Service without selector", len(got))
	}
}
