package rollout

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// image rolls a world's Deployment to another image, one decision far.
func (w *world) image(image string) {
	w.edit(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
	w.step(-1)
}

// readyOf makes some pods of a revision ready.
func (w *world) readyOf(revision int64, n int) {
	for _, pod := range w.those(w.byRevision(revision), func(s PodState) bool { return s.Active && !s.Ready })[:n] {
		w.setReady(pod, true)
	}
}

// TestPodsOfASetThatIsGoingAreNotReliedOn: they may be gone at any moment, so
// others must not go because of them.
func TestPodsOfASetThatIsGoingAreNotReliedOn(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 4, "httpd:1")
	w.deployment.Spec.Strategy.RollingUpdate.MaxSurge = ptr.To(intstr.FromInt32(4))
	w.deployment.Spec.Strategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(0))
	w.run()
	w.image("httpd:2")
	w.readyOf(2, 2)
	w.step(-1)
	w.image("httpd:3")
	w.step(-1)
	if a, b := *w.byRevision(1).Spec.Replicas, *w.byRevision(2).Spec.Replicas; a != 2 || b != 2 {
		t.Fatalf("want two pods of each old set:\n%s", w.history())
	}
	w.readyOf(3, 1)
	w.byRevision(1).DeletionTimestamp = ptr.To(metav1.NewTime(w.now))
	for _, step := range Decide(w.snapshot()).Steps {
		if scale, is := step.(Scale); is && scale.Name == w.byRevision(2).Name {
			t.Errorf("three pods are left without those of the set that goes; four must be: %s", step)
		}
	}
}

// TestSetsGrowOnlyWhenTheirSurplusIsGone: a set that was made smaller and has yet
// to stop pods would stop them whatever it is told then, so they are not counted on.
func TestSetsGrowOnlyWhenTheirSurplusIsGone(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 10, "httpd:1")
	w.run()
	w.image("httpd:2")
	size := func(n int32) Plan {
		w.edit(func(d *appsv1.Deployment) { d.Spec.Replicas = &n })
		plan := Decide(w.snapshot())
		for _, step := range plan.Steps {
			if err := w.carryOut(step); err != nil {
				t.Fatal(err)
			}
		}
		return plan // the sets have not acted
	}
	size(5)
	plan := size(10)
	for _, step := range plan.Steps {
		if scale, is := step.(Scale); is && scale.To > scale.From {
			t.Errorf("it grows before its pods have stopped: %s", step)
		}
	}
	if !strings.Contains(plan.Waiting, "to stop") {
		t.Errorf("it waits for %q", plan.Waiting)
	}
	if _, err := w.run(); err != nil {
		t.Fatal(err)
	}
	if n := w.deployment.Status.AvailableReplicas; n != 10 {
		t.Errorf("ended with %d pods", n)
	}
}

// TestAPausedRecreateWaitsToo: with all sets empty, the new one is not started
// while old pods are stopping, though a paused Deployment is kept at its size.
func TestAPausedRecreateWaitsToo(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("db", 2, "db:1")
	w.deployment.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	w.run()
	w.image("db:2")
	if _, err := w.run(); err != nil {
		t.Fatal(err)
	}
	w.image("db:1") // stops those of the second; its set is there
	w.edit(func(d *appsv1.Deployment) { d.Spec.Paused = true })
	plan := Decide(w.snapshot())
	for _, step := range plan.Steps {
		if _, is := step.(Scale); is {
			t.Errorf("two pods are stopping: %s", step)
		}
	}
	w.reap()
	if plan = Decide(w.snapshot()); !strings.Contains(plan.String(), "from 0 to 2") {
		t.Errorf("nothing is left of the old pods, and yet\n%s", plan)
	}
}
