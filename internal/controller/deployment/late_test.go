package deployment

import (
	"context"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"windlass.dev/windlass/internal/controller/owned"
)

// TestASetThatTheCacheHasNotShownCounts: a template that changes twice before the
// cache shows the first set is not two Deployments' worth of pods.
func TestASetThatTheCacheHasNotShownCounts(t *testing.T) {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "httpd", Namespace: "default", UID: "httpd"}}
	deployment.Spec = appsv1.DeploymentSpec{
		Replicas: ptr.To(int32(4)),
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"run": "httpd"}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"run": "httpd"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "httpd", Image: "httpd:1"}}},
		},
	}
	api := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(deployment).WithStatusSubresource(deployment).
		WithIndex(&appsv1.ReplicaSet{}, controllerIndex, owned.ByController).
		WithIndex(&corev1.Pod{}, owned.Index, owned.ByController).Build()
	late := interceptor.NewClient(api, interceptor.Funcs{
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, sets := list.(*appsv1.ReplicaSetList); sets {
				return nil // it shows none
			}
			return api.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, api client.WithWatch, object client.Object, opts ...client.CreateOption) error {
			object.SetUID(types.UID("uid-of-" + object.GetName()))
			return api.Create(ctx, object, opts...)
		},
	})
	r := &reconciler{client: late, pods: owned.Listed(late), live: api, recorder: record.NewFakeRecorder(100), now: time.Now, written: &owned.Written{}}
	reconcile := func() int32 {
		t.Helper()
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(deployment)}); err != nil {
			t.Fatal(err)
		}
		var sets appsv1.ReplicaSetList
		if err := api.List(t.Context(), &sets); err != nil {
			t.Fatal(err)
		}
		var asked int32
		for i := range sets.Items {
			asked += *sets.Items[i].Spec.Replicas
		}
		return asked
	}
	if n := reconcile(); n != 4 {
		t.Fatalf("%d pods are asked for, want 4", n)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(deployment), deployment); err != nil {
		t.Fatal(err)
	}
	deployment.Spec.Template.Spec.Containers[0].Image = "httpd:2"
	if err := api.Update(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	if n := reconcile(); n > 5 {
		t.Fatalf("%d pods are asked for, at most 5 may be", n)
	}

	// One that is gone without the cache having shown it is forgotten.
	if err := api.DeleteAllOf(t.Context(), &appsv1.ReplicaSet{}, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	if n := reconcile(); n != 4 {
		t.Fatalf("%d pods are asked for, want 4 again", n)
	}
}
