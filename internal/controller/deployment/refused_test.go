package deployment

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// TestASetThatIsRefused: when the new set cannot be made, the rollout has failed
// before any deadline, and says why.
func TestASetThatIsRefused(t *testing.T) {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "httpd", Namespace: "default", UID: "httpd"}}
	deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"run": "httpd"}}
	deployment.Spec.Template.Labels = map[string]string{"run": "httpd"}
	api := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(deployment).WithStatusSubresource(deployment).
		WithIndex(&appsv1.ReplicaSet{}, controllerIndex, owned.ByController).
		WithIndex(&corev1.Pod{}, owned.Index, owned.ByController).Build()
	refusing := interceptor.NewClient(api, interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, object client.Object, _ ...client.CreateOption) error {
			return apierrors.NewForbidden(appsv1.Resource("replicasets"), object.GetName(), errors.New("exceeded quota"))
		},
	})
	events := record.NewFakeRecorder(10)
	r := &reconciler{client: refusing, pods: owned.Listed(refusing), live: api, recorder: events, now: time.Now, written: &owned.Written{}}
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(deployment)}); !apierrors.IsForbidden(err) {
		t.Fatalf("it is to be tried again: %v", err)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(deployment), deployment); err != nil {
		t.Fatal(err)
	}
	for _, c := range deployment.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse &&
			c.Reason == rollout.ReasonReplicaSetCreateError && strings.Contains(c.Message, "exceeded quota") {
			return
		}
	}
	t.Errorf("conditions %+v", deployment.Status.Conditions)
}
