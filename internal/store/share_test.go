package store

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"
)

// watched is a storage whose watch is w.
type watched struct {
	storage.Interface
	w watch.Interface
}

func (s watched) Watch(context.Context, string, storage.ListOptions) (watch.Interface, error) {
	return s.w, nil
}

func version(image string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "1", Labels: map[string]string{"a": "b"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
		Status:     corev1.PodStatus{Phase: phase},
	}
}

// TestVersionsShareWhatIsTheSame: the parts that have not changed are those of
// the version before, and the ones that have are as they came.
func TestVersionsShareWhatIsTheSame(t *testing.T) {
	source := watch.NewFake()
	w, err := sharing{watched{w: source}}.Watch(t.Context(), "", storage.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		source.Add(version("web:1", corev1.PodPending))
		source.Modify(version("web:1", corev1.PodRunning))
		source.Modify(version("web:2", corev1.PodRunning))
		source.Delete(version("web:2", corev1.PodRunning))
		source.Add(version("web:2", corev1.PodRunning))
	}()
	var pods []*corev1.Pod
	for range 5 {
		pods = append(pods, (<-w.ResultChan()).Object.(*corev1.Pod))
	}
	w.Stop()
	for _, test := range []struct {
		a, b         int
		same         bool
		image, phase string
	}{
		{0, 1, true, "web:1", "Running"},
		{1, 2, false, "web:2", "Running"},
		{2, 3, true, "web:2", "Running"},
		{3, 4, false, "web:2", "Running"}, // what is deleted is forgotten
	} {
		a, b := pods[test.a], pods[test.b]
		if same := &a.Spec.Containers[0] == &b.Spec.Containers[0]; same != test.same {
			t.Errorf("versions %d and %d share their spec: %v, want %v", test.a, test.b, same, test.same)
		}
		if b.Spec.Containers[0].Image != test.image || string(b.Status.Phase) != test.phase || b.Labels["a"] != "b" {
			t.Errorf("version %d is %s, %s", test.b, b.Spec.Containers[0].Image, b.Status.Phase)
		}
	}
}

// TestSiblingsShareTheirSpec: a new pod of a set uses the containers of the one
// before, has a node and a name of its own, and keeps nothing of a set whose pods
// are gone.
func TestSiblingsShareTheirSpec(t *testing.T) {
	of := func(name, set string) *corev1.Pod {
		pod := version("web:1", corev1.PodPending)
		pod.Name, pod.UID, pod.Spec.NodeName = name, types.UID(name), "node-of-"+name
		pod.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(set), Controller: ptr.To(true)}}
		return pod
	}
	source := watch.NewFake()
	w, err := sharing{watched{w: source}}.Watch(t.Context(), "", storage.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next := func(event watch.EventType, pod *corev1.Pod) *corev1.Pod {
		go source.Action(event, pod)
		return (<-w.ResultChan()).Object.(*corev1.Pod)
	}
	share := func(a, b *corev1.Pod) bool { return &a.Spec.Containers[0] == &b.Spec.Containers[0] }
	first, second, other := next(watch.Added, of("a", "x")), next(watch.Added, of("b", "x")), next(watch.Added, of("c", "y"))
	if !share(first, second) || share(first, other) {
		t.Errorf("pods of one set share their spec: %v, of two: %v; want true, false", share(first, second), share(first, other))
	}
	if second.Name != "b" || second.UID != "b" || second.Spec.NodeName != "node-of-b" || first.Spec.NodeName != "node-of-a" {
		t.Errorf("the second is %s on %s, the first on %s", second.Name, second.Spec.NodeName, first.Spec.NodeName)
	}
	next(watch.Deleted, of("b", "x"))
	next(watch.Deleted, of("a", "x"))
	if share(first, next(watch.Added, of("d", "x"))) {
		t.Error("a pod that is gone is still remembered")
	}
}
