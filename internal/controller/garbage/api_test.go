package garbage

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/controllertest"
)

// family is a Deployment with a ReplicaSet and a pod, and a ConfigMap that the
// Deployment owns: kinds with shared watches and one that is watched by metadata.
type family struct {
	deployment *appsv1.Deployment
	replicaSet *appsv1.ReplicaSet
	pod        *corev1.Pod
	config     *corev1.ConfigMap
}

func newFamily(t *testing.T, c client.Client, name string) family {
	t.Helper()
	app := map[string]string{"app": name}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	owned := func(owner client.Object, gvk schema.GroupVersionKind, suffix string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name + suffix, Namespace: "default", Labels: app,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, gvk)}}
	}
	create := func(o client.Object) {
		t.Helper()
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	f := family{}
	f.deployment = &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: template}}
	create(f.deployment)
	deployment := appsv1.SchemeGroupVersion.WithKind("Deployment")
	f.replicaSet = &appsv1.ReplicaSet{ObjectMeta: owned(f.deployment, deployment, "-1"),
		Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: app}, Template: template}}
	create(f.replicaSet)
	f.pod = &corev1.Pod{ObjectMeta: owned(f.replicaSet, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), "-1-a"), Spec: template.Spec}
	create(f.pod)
	f.config = &corev1.ConfigMap{ObjectMeta: owned(f.deployment, deployment, "-config")}
	create(f.config)
	return f
}

// there reads an object again and says whether it exists.
func there(t *testing.T, c client.Client, o client.Object) bool {
	t.Helper()
	err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return !apierrors.IsNotFound(err)
}

func testBackground(t *testing.T, c client.Client, name string) {
	f := newFamily(t, c, name)
	began := time.Now()
	if err := c.Delete(t.Context(), f.deployment, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	if there(t, c, f.deployment) {
		t.Error("the Deployment waited for its dependents")
	}
	controllertest.Eventually(t, "all dependents are gone", func() bool {
		return !there(t, c, f.replicaSet) && !there(t, c, f.pod) && !there(t, c, f.config)
	})
	t.Logf("gone after %v", time.Since(began).Round(100*time.Microsecond))
}

func TestAgainstAPI(t *testing.T) {
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(99)) })
	ctx := t.Context()
	there := func(o client.Object) bool { t.Helper(); return there(t, c, o) }
	remove := func(o client.Object, options ...client.DeleteOption) {
		t.Helper()
		if err := c.Delete(ctx, o, options...); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"background", "again"} {
		t.Run(name, func(t *testing.T) { testBackground(t, c, name) })
	}
	t.Run("foreground", func(t *testing.T) {
		f := newFamily(t, c, "foreground")
		f.pod.Finalizers = []string{"example.com/hold"}
		if err := c.Update(ctx, f.pod); err != nil {
			t.Fatal(err)
		}
		remove(f.deployment, client.PropagationPolicy(metav1.DeletePropagationForeground))
		controllertest.Eventually(t, "the pod is being deleted", func() bool { return there(f.pod) && f.pod.DeletionTimestamp != nil })
		if !there(f.replicaSet) || !there(f.deployment) {
			t.Error("an owner did not wait for the pod")
		}
		f.pod.Finalizers = nil
		if err := c.Update(ctx, f.pod); err != nil {
			t.Fatal(err)
		}
		controllertest.Eventually(t, "the Deployment follows its dependents", func() bool { return !there(f.deployment) })
		if there(f.replicaSet) || there(f.pod) {
			t.Error("the Deployment went before its dependents")
		}
	})
	t.Run("orphan", func(t *testing.T) {
		f := newFamily(t, c, "orphan")
		remove(f.deployment, client.PropagationPolicy(metav1.DeletePropagationOrphan))
		controllertest.Eventually(t, "the Deployment is gone", func() bool { return !there(f.deployment) })
		if !there(f.replicaSet) || !there(f.pod) || !there(f.config) {
			t.Error("a dependent did not stay")
		}
		if len(f.replicaSet.OwnerReferences)+len(f.config.OwnerReferences) != 0 || len(f.pod.OwnerReferences) != 1 {
			t.Errorf("owners %v of the ReplicaSet and %v of the pod", f.replicaSet.OwnerReferences, f.pod.OwnerReferences)
		}
	})
	t.Run("the record of a rollout goes with its revision", func(t *testing.T) {
		f := newFamily(t, c, "recorded")
		record := &v1alpha1.RolloutRecord{
			ObjectMeta: metav1.ObjectMeta{Name: "recorded-1", Namespace: "default", OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: f.replicaSet.Name, UID: f.replicaSet.UID}}},
			Spec: v1alpha1.RolloutRecordSpec{
				Target:   v1alpha1.RolloutTarget{APIVersion: "apps/v1", Kind: "Deployment", Name: "recorded", UID: f.deployment.UID},
				Revision: 1, StartedAt: metav1.NowMicro(),
			},
		}
		if err := c.Create(ctx, record); err != nil {
			t.Fatal(err)
		}
		remove(f.pod)
		if !there(record) {
			t.Error("the record went before its revision")
		}
		remove(f.replicaSet)
		controllertest.Eventually(t, "the record is gone", func() bool { return !there(record) })
	})
	t.Run("an owner that never was", func(t *testing.T) {
		lost := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "lost", Namespace: "default",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: "no", UID: "no"}}}}
		if err := c.Create(ctx, lost); err != nil {
			t.Fatal(err)
		}
		controllertest.Eventually(t, "the object is gone", func() bool { return !there(lost) })
	})
}
