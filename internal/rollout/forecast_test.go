package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

// places is a Room for some number of pods, those that are there included.
type places struct {
	free int
	here map[types.UID]bool
}

func (p *places) Place(pod *corev1.Pod) bool {
	if p.free == 0 {
		return false
	}
	p.free--
	p.here[pod.UID] = true
	return true
}

func (p *places) Leave(uid types.UID) {
	if p.here[uid] {
		p.free++
		delete(p.here, uid)
	}
}

// TestForecasts runs the scripts in testdata/forecasts: the commands of
// TestScenarios, and
//
//	forecast [places=N]   plays the rollout to its end, with N places for pods
//	                      (else as many as it takes)
func TestForecasts(t *testing.T) {
	datadriven.Walk(t, "testdata/forecasts", func(t *testing.T, path string) {
		w := newWorld()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "forecast" {
				out, err := w.command(t, d)
				if err != nil {
					return "error: " + err.Error() + "\n"
				}
				return out
			}
			n := -1
			d.MaybeScanArgs(t, "places", &n)
			room := w.room(n)
			before := fmt.Sprintf("%+v %+v %+v", w.deployment, w.sets, w.pods)
			f := ForecastOf(w.snapshot(), room)
			if after := fmt.Sprintf("%+v %+v %+v", w.deployment, w.sets, w.pods); after != before {
				t.Error("the forecast changed what it looked at")
			}
			return f.text()
		})
	})
}

// bind gives all pods of the world a node.
func (w *world) bind() {
	for i, pod := range w.pods {
		pod.UID, pod.Spec.NodeName = types.UID(fmt.Sprintf("%s-%d", pod.Name, i)), "node"
	}
}

// room is n places for pods, of which those of the world have some; as many as
// it takes when n is negative.
func (w *world) room(n int) Room {
	w.bind()
	if n < 0 {
		return Endless{}
	}
	p := &places{free: n - len(w.pods), here: map[types.UID]bool{}}
	for _, pod := range w.pods {
		p.here[pod.UID] = true
	}
	return p
}

func (f Forecast) text() string {
	var b strings.Builder
	for i, wave := range f.Waves {
		var moves []string
		for _, m := range wave.Moves {
			age := "old"
			if m.New {
				age = "new"
			}
			moves = append(moves, fmt.Sprintf("%s %d to %d", age, m.From, m.To))
		}
		fmt.Fprintf(&b, "%d. %s: %d asked for, %d available", i+1, strings.Join(moves, ", "), wave.Asked, wave.Available)
		if wave.Late > 0 {
			fmt.Fprintf(&b, ", %d of them late", wave.Late)
		}
		if wave.Homeless > 0 {
			fmt.Fprintf(&b, ", %d without a node", wave.Homeless)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "at most %d asked for, at least %d available; waits for new ones %d times, for old ones %d times\n",
		f.MostAsked, f.LeastAvailable, f.Waits, f.StopWaits)
	if f.Complete {
		return b.String() + "complete\n"
	}
	if f.Instead != "" {
		return b.String() + "instead: " + f.Instead + "\n"
	}
	return b.String() + "stuck, waiting for " + f.Stuck + "\n"
}

// TestForecastIsWhatHappens: whatever state a rollout is in, the forecast ends as
// the world does when all goes well, and on the way it keeps to the bounds.
func TestForecastIsWhatHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChaos(t)
		t.Repeat(map[string]func(*rapid.T){
			"decide": c.decide, "settle": c.oneSetActs, "edit": c.change, "fail": c.fail, "lose": c.loseSet,
			"ready":   func(t *rapid.T) { c.flip(t, true) },
			"unready": func(t *rapid.T) { c.flip(t, false) },
			"stop":    func(*rapid.T) { c.reap() },
		})
		c.edit(func(d *appsv1.Deployment) { d.Spec.Paused = rapid.IntRange(0, 4).Draw(t, "paused") == 0 })
		c.bind()
		before, budget := c.asked(), BudgetOf(c.deployment)
		forecast := ForecastOf(c.snapshot(), Endless{})
		available := forecastAvailable(c.snapshot())
		for i, wave := range forecast.Waves {
			if wave.Asked > max(before, budget.MaxTotal()) {
				t.Fatalf("wave %d asks for %d pods; %d may be\n%s", i+1, wave.Asked, budget.MaxTotal(), forecast.text())
			}
			before = wave.Asked
		}
		rolling := c.deployment.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType
		if least := min(available, budget.MinAvailable()); rolling && forecast.LeastAvailable < least {
			t.Fatalf("only %d pods are available; %d must be\n%s", forecast.LeastAvailable, least, forecast.text())
		}
		c.collect()
		c.settle()
		if _, err := c.run(); err != nil {
			t.Fatal(err)
		}
		d, err := newDraft(c.snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if d.complete() != forecast.Complete {
			t.Fatalf("the world ends complete: %v; the forecast is\n%s\nhistory\n%s", d.complete(), forecast.text(), c.history())
		}
		if forecast.Complete == (forecast.Stuck != "") {
			t.Fatalf("complete and stuck, or neither\n%s", forecast.text())
		}
	})
}

// collect ends the sets that are being deleted, and their pods with them.
func (w *world) collect() {
	for _, rs := range slices.Clone(w.sets) {
		if rs.DeletionTimestamp == nil {
			continue
		}
		for _, pod := range w.those(rs, func(s PodState) bool { return s.Active }) {
			pod.DeletionTimestamp = rs.DeletionTimestamp
		}
		w.sets = slices.DeleteFunc(w.sets, func(other *appsv1.ReplicaSet) bool { return other == rs })
	}
}

// forecastAvailable is how many pods are available, and sure to stay, before
// anything is decided.
func forecastAvailable(s Snapshot) (n int32) {
	d, err := newDraft(s)
	if err != nil {
		return 0
	}
	return d.available()
}

// TestForecastInLittleRoom: with room for less than the surge a rollout takes
// longer, but ends, as long as one pod can move.
func TestForecastInLittleRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.deployment = newDeployment("httpd", rapid.Int32Range(1, 12).Draw(t, "replicas"), "httpd:1")
		c := &chaos{world: w}
		w.edit(func(*appsv1.Deployment) { c.strategy(t) })
		if _, err := w.run(); err != nil {
			t.Fatal(err)
		}
		c.change(t)
		replicas, budget := *w.deployment.Spec.Replicas, BudgetOf(w.deployment)
		spare := rapid.IntRange(0, 6).Draw(t, "spare")
		n := len(w.pods) + spare
		f := ForecastOf(w.snapshot(), w.room(n))
		rolls := !SameTemplate(&w.sets[0].Spec.Template, &w.deployment.Spec.Template)
		recreate := w.deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
		enough := n >= int(replicas) && (!rolls || recreate || n > int(replicas) || budget.Unavailable > 0 || len(w.pods) == 0 || replicas == 0)
		if f.Complete != enough {
			t.Fatalf("with %d places for %d of %d pods, %+v: complete %v\n%s", n, len(w.pods), replicas, budget, f.Complete, f.text())
		}
		if !f.Complete && len(f.Homeless) == 0 {
			t.Fatalf("stuck, but no pod is without a node\n%s", f.text())
		}
	})
}

// BenchmarkForecast plays the rollout of 5,000 pods, a quarter at a time, and one
// of 500 one by one.
func BenchmarkForecast(b *testing.B) {
	for _, size := range []struct {
		replicas int32
		surge    string
	}{{5000, "25%"}, {500, "1"}} {
		b.Run(fmt.Sprintf("replicas=%d/surge=%s", size.replicas, size.surge), func(b *testing.B) {
			w := newWorld()
			w.deployment = newDeployment("httpd", size.replicas, "httpd:1")
			w.deployment.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{
				MaxSurge: ptr.To(intstr.Parse(size.surge)), MaxUnavailable: ptr.To(intstr.FromInt32(0)),
			}
			if _, err := w.run(); err != nil {
				b.Fatal(err)
			}
			w.bind()
			w.edit(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "httpd:2" })
			for b.Loop() {
				if !ForecastOf(w.snapshot(), Endless{}).Complete {
					b.Fatal("not complete")
				}
			}
		})
	}
}
