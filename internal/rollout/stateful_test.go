package rollout

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// TestClaimGoesBeforeVolume: a volume of the template that has the name of a claim
// is not mounted.
func TestClaimGoesBeforeVolume(t *testing.T) {
	set := newStatefulSet("db")
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{}}
	set.Spec.VolumeClaimTemplates[0].Name = "data"
	set.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data"}, {Name: "tmp"}}
	pod := newStatefulPod(set, &revision{object: &appsv1.ControllerRevision{}, template: set.Spec.Template}, 3)
	if v := pod.Spec.Volumes; len(v) != 2 || v[0].Name != "tmp" || v[1].PersistentVolumeClaim == nil || v[1].PersistentVolumeClaim.ClaimName != "data-db-3" {
		t.Errorf("volumes %+v", v)
	}
	if len(set.Spec.Template.Spec.Volumes) != 2 || set.Spec.Template.Spec.Volumes[0].Name != "data" {
		t.Errorf("the set's template has changed: %+v", set.Spec.Template.Spec.Volumes)
	}
}

// TestClaimOfPodThatWaits: a claim that is deleted before its pod has started is made
// again, for the pod waits for it; once the pod runs it is not.
func TestClaimOfPodThatWaits(t *testing.T) {
	for phase, want := range map[corev1.PodPhase]int{corev1.PodPending: 1, corev1.PodRunning: 0} {
		w := newStatefulWorld("db")
		w.set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{}}
		w.set.Spec.VolumeClaimTemplates[0].Name = "data"
		w.set.Spec.Replicas = ptr.To[int32](1)
		act := func() {
			for _, step := range w.decide().Steps {
				if err := w.carryOut(step); err != nil {
					t.Fatal(err)
				}
			}
		}
		act()
		act()
		if len(w.pods) != 1 || len(w.claims) != 1 {
			t.Fatalf("%d pods, %d claims", len(w.pods), len(w.claims))
		}
		w.pods[0].Status.Phase = phase
		w.claims = nil
		act()
		if len(w.claims) != want {
			t.Errorf("%s: %d claims, want %d", phase, len(w.claims), want)
		}
	}
}

// TestRevisionNames: they can be labels, however long the set's name is, and one
// that is taken is passed over.
func TestRevisionNames(t *testing.T) {
	w := newStatefulWorld(strings.Repeat("n", 63))
	if _, err := w.run(); err != nil {
		t.Fatal(err)
	}
	if name := w.revisions[0].Name; len(name) != 63 {
		t.Errorf("name %s has %d letters", name, len(name))
	}
	w = newStatefulWorld("db")
	taken := &appsv1.ControllerRevision{}
	taken.Name = revisionName("db", revisionHash(revisionData(&w.set.Spec.Template), nil))
	w.revisions = append(w.revisions, taken)
	if _, err := w.run(); err != nil {
		t.Fatal(err)
	}
	if w.set.Status.CollisionCount == nil || *w.set.Status.CollisionCount != 1 || len(w.revisions) != 2 || len(w.pods) != 1 {
		t.Errorf("status %+v, %d revisions, %d pods", w.set.Status, len(w.revisions), len(w.pods))
	}
}

// TestRevisionData: what is kept of a template is what kubectl patches a set with.
func TestRevisionData(t *testing.T) {
	template := newStatefulSet("db").Spec.Template
	data := string(revisionData(&template))
	if !strings.HasPrefix(data, `{"spec":{"template":{"$patch":"replace","metadata":{`) {
		t.Errorf("data %s", data)
	}
	for _, bad := range []string{``, `{}`, `{"spec":{"template":7}}`, `x`} {
		r := &appsv1.ControllerRevision{}
		r.Data.Raw = []byte(bad)
		if _, err := TemplateOf(r); err == nil {
			t.Errorf("%q is taken for a template", bad)
		}
	}
}

// FuzzTemplateOf: no content of a revision panics, and what is read comes back.
func FuzzTemplateOf(f *testing.F) {
	template := newStatefulSet("db").Spec.Template
	f.Add(revisionData(&template))
	f.Add([]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"a"}]}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &appsv1.ControllerRevision{}
		r.Data.Raw = data
		read, err := TemplateOf(r)
		if err != nil {
			return
		}
		r.Data.Raw = revisionData(read)
		if again, err := TemplateOf(r); err != nil || !SameTemplate(read, again) {
			t.Errorf("%v: %+v became %+v", err, read, again)
		}
	})
}

// TestPartitionOutlivesPods: all pods being gone at once, as with their node, does
// not make the new revision the current one.
func TestPartitionOutlivesPods(t *testing.T) {
	for _, replicas := range []int32{3, 0} {
		w := newStatefulWorld("db")
		w.set.Spec.Replicas = ptr.To(int32(3))
		w.set.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To(int32(2))
		if _, err := w.run(); err != nil {
			t.Fatal(err)
		}
		w.edit(func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].Image = "db:2"
			s.Spec.Replicas = &replicas
		})
		if _, err := w.run(); err != nil {
			t.Fatal(err)
		}
		w.pods = nil
		w.edit(func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To(int32(3)) })
		if _, err := w.run(); err != nil {
			t.Fatal(err)
		}
		for i, pod := range w.pods {
			if want := map[bool]string{true: "db:2", false: "db:1"}[i == 2]; pod.Spec.Containers[0].Image != want {
				t.Errorf("by way of %d: %s has %s", replicas, pod.Name, pod.Spec.Containers[0].Image)
			}
		}
	}
}

// TestOrdinals are in names as they are printed, and nothing else.
func TestOrdinals(t *testing.T) {
	for name, want := range map[string]int32{"a-0": 0, "a-10": 10, "a-2147483647": 2147483647} {
		if n, ok := OrdinalOf("a", name); !ok || n != want {
			t.Errorf("%s: %d, %v", name, n, ok)
		}
	}
	for _, name := range []string{"a", "a-", "a-01", "a--1", "a-+1", "a-x", "b-1", "a-b-1", "a-2147483648"} {
		if n, ok := OrdinalOf("a", name); ok {
			t.Errorf("%s is %d", name, n)
		}
	}
}
