package rollout

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// found returns a set with the Deployment's template that a user has made.
func found(deployment *appsv1.Deployment, name string) *appsv1.ReplicaSet {
	rs := newReplicaSet(deployment, "abc", 1, nil)
	rs.Name, rs.OwnerReferences = name, nil
	return rs
}

func TestOrphansAreAdoptedBySelector(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 1, "httpd:1")
	w.add(found(w.deployment, "mine"))
	other := found(w.deployment, "other")
	other.Labels = map[string]string{"run": "nginx"}
	w.add(other)
	if out, err := w.run(); err != nil || out != "" {
		t.Fatalf("a set with the template exists, but %s %v", out, err)
	}
	if !metav1.IsControlledBy(w.set("mine"), w.deployment) || metav1.GetControllerOf(w.set("other")) != nil {
		t.Fatalf("want mine adopted and other not:\n%s", w.history())
	}
	if w.deployment.Annotations[AnnotationRevision] != "1" {
		t.Fatalf("revision %q", w.deployment.Annotations[AnnotationRevision])
	}
}

func TestSetsThatMatchNoMoreAreReleased(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 2, "httpd:1")
	w.run()
	first := w.sets[0]
	first.Labels = map[string]string{"run": "nginx"}
	if _, err := w.run(); err != nil {
		t.Fatal(err)
	}
	if metav1.GetControllerOf(first) != nil || len(w.sets) != 2 {
		t.Fatalf("want one released and a new one:\n%s", w.history())
	}
	if got := *w.deployment.Status.CollisionCount; got != 1 || w.sets[1].Name == first.Name {
		t.Fatalf("the released set holds the name: want another, by collision 1, not %d: %s", got, w.sets[1].Name)
	}
}

func TestADeletedDeploymentOnlyReports(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 2, "httpd:1")
	w.step(-1)
	w.deployment.DeletionTimestamp = ptr.To(metav1.NewTime(w.now))
	w.edit(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "httpd:2" })
	w.add(found(w.deployment, "orphan"))
	for _, step := range Decide(w.snapshot()).Steps {
		if _, ok := step.(SetStatus); !ok {
			t.Errorf("unwanted step: %s", step)
		}
	}
}

func TestTakenNames(t *testing.T) {
	deployment := newDeployment("httpd", 2, "httpd:1")
	first := Decide(Snapshot{Deployment: deployment}).Steps[0].(Create).ReplicaSet

	foreign := first.DeepCopy()
	foreign.UID, foreign.OwnerReferences = "foreign", nil
	foreign.Labels = map[string]string{"run": "nginx"}
	plan := Decide(Snapshot{Deployment: deployment, Taken: []*appsv1.ReplicaSet{foreign}})
	second := plan.Steps[0].(Create).ReplicaSet
	if second.Name == first.Name {
		t.Fatalf("the name %s is taken\n%s", first.Name, plan)
	}
	if st := plan.Steps[1].(SetStatus).Status; *st.CollisionCount != 1 {
		t.Fatalf("collisionCount %d, want 1", *st.CollisionCount)
	}

	ours := first.DeepCopy()
	ours.UID = "ours"
	plan = Decide(Snapshot{Deployment: deployment, Taken: []*appsv1.ReplicaSet{ours}})
	for _, step := range plan.Steps {
		if _, ok := step.(Create); ok {
			t.Fatalf("created twice, since a cache was late:\n%s", plan)
		}
	}
}

func TestASetBeingDeletedIsWaitedFor(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 2, "httpd:1")
	w.run()
	w.sets[0].DeletionTimestamp = ptr.To(metav1.NewTime(w.now))
	plan := Decide(w.snapshot())
	for _, step := range plan.Steps {
		if _, ok := step.(SetStatus); !ok {
			t.Errorf("unwanted step: %s", step)
		}
	}
	if plan.Waiting == "" {
		t.Error("it does not say what it waits for")
	}
}

func TestTemplateHash(t *testing.T) {
	template := &newDeployment("httpd", 1, "httpd:1").Spec.Template
	plain := templateHash(template, nil)
	if plain != "l295qbgbmd" {
		t.Errorf("the hash of a template has changed: %s", plain)
	}
	if templateHash(template, ptr.To(int32(1))) == plain {
		t.Error("a collision does not change it")
	}
	labelled := template.DeepCopy()
	labelled.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = "x"
	if templateHash(labelled, nil) != plain || !SameTemplate(labelled, template) {
		t.Error("the hash label counts")
	}
	labelled.Labels["tier"] = "web"
	if templateHash(labelled, nil) == plain || SameTemplate(labelled, template) {
		t.Error("another label does not count")
	}
}
