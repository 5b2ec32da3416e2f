package garbage

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func ownedPod(name string, owners ...metav1.OwnerReference) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), OwnerReferences: owners}}
}

func replicaSet(uid string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: uid, UID: types.UID(uid), BlockOwnerDeletion: ptr.To(true)}
}

func newTestCollector(t *testing.T, objects ...client.Object) *collector {
	t.Helper()
	mapper := testrestmapper.TestOnlyStaticRESTMapper(scheme.Scheme)
	c := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithRESTMapper(mapper).WithObjects(objects...).Build()
	return newCollector(c, c, mapper, record.NewFakeRecorder(9))
}

// see shows the collector an object as the API has it.
func see(t *testing.T, c *collector, o client.Object) {
	t.Helper()
	if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	gvk, err := c.client.GroupVersionKindFor(o)
	if err != nil {
		t.Fatal(err)
	}
	c.set(gvk, o)
}

func collect(t *testing.T, c *collector, uid types.UID) {
	t.Helper()
	if err := c.collect(t.Context(), uid); err != nil {
		t.Fatal(err)
	}
}

func TestOwnerIsAskedForBeforeDeletion(t *testing.T) {
	lost, kept := ownedPod("lost", replicaSet("gone")), ownedPod("kept", replicaSet("here"))
	impostor := ownedPod("impostor", replicaSet("here"))
	impostor.OwnerReferences[0].UID = "another" // the name is taken by a later ReplicaSet
	c := newTestCollector(t, lost, kept, impostor,
		&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "here", Namespace: "default", UID: "here"}})
	for _, p := range []*corev1.Pod{lost, kept, impostor} {
		see(t, c, p)
		collect(t, c, p.UID)
	}
	var left corev1.PodList
	if err := c.client.List(t.Context(), &left); err != nil {
		t.Fatal(err)
	}
	if len(left.Items) != 1 || left.Items[0].Name != "kept" {
		t.Errorf("left %d pods, want the one whose owner exists", len(left.Items))
	}
}

func TestOrphan(t *testing.T) {
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "rs", Namespace: "default", UID: "rs", Finalizers: []string{"orphan", "keep/me"}}}
	pod := ownedPod("a", replicaSet("rs"), replicaSet("other"))
	c := newTestCollector(t, rs, pod)
	if err := c.client.Delete(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	see(t, c, rs)
	see(t, c, pod)
	collect(t, c, "rs")
	see(t, c, pod)
	if len(pod.OwnerReferences) != 1 || pod.OwnerReferences[0].UID != "other" {
		t.Errorf("the pod has owners %v, want the other one only", pod.OwnerReferences)
	}
	see(t, c, rs)
	if len(rs.Finalizers) != 1 || rs.Finalizers[0] != "keep/me" {
		t.Errorf("finalizers %v, want only the one that is not ours", rs.Finalizers)
	}
}

// A write decided on an object that has changed since does not happen.
func TestChangedObjectIsNotDeleted(t *testing.T) {
	pod := ownedPod("a", replicaSet("gone"))
	c := newTestCollector(t, pod)
	see(t, c, pod)
	adopted := pod.DeepCopy()
	adopted.OwnerReferences = []metav1.OwnerReference{replicaSet("other")}
	if err := c.client.Update(t.Context(), adopted); err != nil {
		t.Fatal(err)
	}
	if err := c.collect(t.Context(), "a"); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a conflict", err)
	}
	if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
		t.Errorf("the pod that was adopted is gone: %v", err)
	}
}

// What the watch shows deleted is not asked for: its dependents go at once.
func TestDependentsGoWithTheirOwner(t *testing.T) {
	pod := ownedPod("a", replicaSet("rs"))
	c := newTestCollector(t, pod)
	c.set(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), &metav1.ObjectMeta{Name: "rs", Namespace: "default", UID: "rs"})
	see(t, c, pod)
	c.live = nil
	collect(t, c, "a")
	c.remove("rs")
	collect(t, c, "a")
	if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); !apierrors.IsNotFound(err) {
		t.Errorf("error %v, want the pod gone", err)
	}
}
