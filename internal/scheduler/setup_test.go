package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// writerTo returns a writer to an API with these objects, of which the answers to so
// many bindings and reads are lost.
func writerTo(bindings, reads int, objects ...client.Object) (*apiWriter, client.Client) {
	lost := errors.New("connection lost")
	api := fake.NewClientBuilder().WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		SubResourceCreate: func(ctx context.Context, c client.Client, _ string, pod, binding client.Object, _ ...client.SubResourceCreateOption) error {
			pod.(*corev1.Pod).Spec.NodeName = binding.(*corev1.Binding).Target.Name
			if err := c.Update(ctx, pod); err != nil {
				return err
			}
			if bindings--; bindings >= 0 {
				return lost
			}
			return nil
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
			if reads--; reads >= 0 {
				return lost
			}
			return c.Get(ctx, key, object, opts...)
		},
	}).Build()
	return &apiWriter{client: api, live: api, recorder: record.NewFakeRecorder(99), log: logr.Discard(), now: time.Now}, api
}

// A binding whose answer is lost is looked for until the API answers: the pod has its
// place, whoever else would like it.
func TestBindingIsCertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := makePod("p")
		w, _ := writerTo(1, 3, pod)
		if got := w.bind(t.Context(), pod, nil, "a"); got != written {
			t.Errorf("outcome %v of a binding that is in the API", got)
		}
	})
}

// A pod is not bound for the sake of a claim that is not there any more.
func TestBindingToClaimsOfThePast(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "new"}}
	going := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d", UID: "d", Finalizers: []string{claimProtection}}}
	for uid, want := range map[types.UID]outcome{"new": written, "old": failed, "going": failed} {
		pod := makePod("p")
		w, api := writerTo(0, 0, pod, claim.DeepCopy(), going.DeepCopy())
		if err := api.Delete(t.Context(), going.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		knew := claim.DeepCopy()
		knew.UID = uid
		if uid == "going" {
			knew = going
		}
		if got := w.bind(t.Context(), pod, []*corev1.PersistentVolumeClaim{knew}, "a"); got != want {
			t.Errorf("claim %s: outcome %v, want %v", uid, got, want)
		}
	}
}

const claimProtection = "kubernetes.io/pvc-protection"
