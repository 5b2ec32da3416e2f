package rollout

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"pgregory.net/rapid"
)

// TestSafety: by no step of its own does the controller leave fewer pods sure to
// be available than must be, nor ask for more than there may be, whatever
// happens; and when things calm down, it finishes.
func TestSafety(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChaos(t)
		t.Repeat(map[string]func(*rapid.T){
			"decide":  c.decide,
			"settle":  c.oneSetActs,
			"ready":   func(t *rapid.T) { c.flip(t, true) },
			"unready": func(t *rapid.T) { c.flip(t, false) },
			"fail":    c.fail,
			"delete":  c.deletePod,
			"stop":    c.stop,
			"time":    c.tick,
			"edit":    c.change,
			"pause":   c.pause,
			"lose":    c.loseSet,
			"losing":  c.beginToLoseSet,
			"resize":  c.resizeSet,
		})
		c.calm(t)
	})
}

// TestSafetyWithStaleViews is the same for a controller that sees the Deployment,
// its sets and the pods as they were some time ago, but for what it has written
// itself. Sets and pods are not harmed here: what it cannot see, it cannot heed.
func TestSafetyWithStaleViews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChaos(t)
		c.deployment.Spec.MinReadySeconds = 0
		c.look()
		t.Repeat(map[string]func(*rapid.T){
			"decide": c.decide,
			"settle": func(t *rapid.T) {
				c.allSetsActPromptly()
				c.oneSetActs(t)
			},
			"ready": func(t *rapid.T) { c.flip(t, true) },
			"stop":  c.stop,
			"edit":  c.change,
			"pause": c.pause,
			"look":  func(*rapid.T) { c.look() },
		})
		c.calm(t)
	})
}

// TestStaleViewsEndWell: with everything that can happen, and a stale view of it,
// the rules that hold are those that need no view: no set twice, no step upon
// something that has changed; and in the end the rollout completes.
func TestStaleViewsEndWell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChaos(t)
		c.look()
		t.Repeat(map[string]func(*rapid.T){
			"decide":  c.decideFreely,
			"settle":  c.oneSetActs,
			"ready":   func(t *rapid.T) { c.flip(t, true) },
			"unready": func(t *rapid.T) { c.flip(t, false) },
			"fail":    c.fail,
			"delete":  c.deletePod,
			"stop":    c.stop,
			"edit":    c.change,
			"pause":   c.pause,
			"lose":    c.loseSet,
			"losing":  c.beginToLoseSet,
			"resize":  c.resizeSet,
			"look":    func(*rapid.T) { c.look() },
		})
		c.calm(t)
	})
}

// TestDecideLeavesTheSnapshotAlone: the objects may belong to a shared cache.
func TestDecideLeavesTheSnapshotAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChaos(t)
		t.Repeat(map[string]func(*rapid.T){
			"decide": c.decide, "settle": c.oneSetActs, "edit": c.change,
			"ready": func(t *rapid.T) { c.flip(t, true) },
			"": func(t *rapid.T) {
				before := fmt.Sprintf("%+v %+v", c.deployment, c.sets)
				first, second := Decide(c.snapshot()).String(), Decide(c.snapshot()).String()
				if after := fmt.Sprintf("%+v %+v", c.deployment, c.sets); after != before || first != second {
					t.Fatalf("Decide changed\n%s\nto\n%s", before, after)
				}
			},
		})
	})
}

// BenchmarkDecide makes one decision in the middle of a rollout of 5,000 pods.
func BenchmarkDecide(b *testing.B) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 5000, "httpd:1")
	w.run()
	w.edit(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "httpd:2" })
	w.step(-1)
	for _, pod := range w.those(nil, func(s PodState) bool { return s.Active && !s.Ready })[:700] {
		w.setReady(pod, true)
	}
	snapshot := w.snapshot()
	b.ReportAllocs()
	for b.Loop() {
		if len(Decide(snapshot).Steps) < 2 {
			b.Fatal("nothing to do")
		}
	}
}
