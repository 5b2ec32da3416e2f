package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

// chaos is a world in which anything may happen in any order: pods become ready
// and lose it, fail and stop late; sets act late; the user changes his mind; the
// controller dies between two steps, or sees pods as they were some time ago.
type chaos struct {
	*world
	late map[types.UID][]*corev1.Pod // pods as the controller sees them; nil when it sees them as they are
}

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
			"stop":    func(*rapid.T) { c.reap() },
			"time":    func(t *rapid.T) { c.now = c.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "s")) * time.Second) },
			"edit":    c.change,
			"pause":   func(*rapid.T) { c.edit(func(d *appsv1.Deployment) { d.Spec.Paused = !d.Spec.Paused }) },
			"orphan":  c.loseSet,
		})
		c.calm(t)
	})
}

// TestSafetyWithStalePods is the same for a controller whose view of the pods
// lags behind. Pods do not fail here: what it cannot see, it cannot heed.
func TestSafetyWithStalePods(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChaos(t)
		c.deployment.Spec.MinReadySeconds = 0
		t.Repeat(map[string]func(*rapid.T){
			"decide": c.decide,
			"settle": c.oneSetActs,
			"ready":  func(t *rapid.T) { c.flip(t, true) },
			"stop":   func(*rapid.T) { c.reap() },
			"edit":   c.change,
			"look":   func(*rapid.T) { c.late = c.view() },
		})
		c.late = nil
		c.calm(t)
	})
}

func newChaos(t *rapid.T) *chaos {
	c := &chaos{world: newWorld()}
	c.deployment = newDeployment("httpd", rapid.Int32Range(0, 12).Draw(t, "replicas"), "httpd:0")
	c.deployment.Spec.MinReadySeconds = rapid.SampledFrom([]int32{0, 0, 5}).Draw(t, "minReady")
	c.deployment.Spec.RevisionHistoryLimit = ptr.To(rapid.Int32Range(0, 3).Draw(t, "history"))
	c.strategy(t)
	return c
}

func (c *chaos) strategy(t *rapid.T) {
	quantity := rapid.SampledFrom([]string{"0", "1", "2", "5", "1%", "25%", "50%", "100%"})
	c.deployment.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{
		MaxSurge:       ptr.To(intstr.Parse(quantity.Draw(t, "surge"))),
		MaxUnavailable: ptr.To(intstr.Parse(quantity.Draw(t, "unavailable"))),
	}
}

func (c *chaos) change(t *rapid.T) {
	c.edit(func(d *appsv1.Deployment) {
		switch rapid.SampledFrom([]string{"image", "image", "replicas", "strategy"}).Draw(t, "what") {
		case "image":
			d.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("httpd:%d", rapid.IntRange(0, 3).Draw(t, "image"))
		case "replicas":
			d.Spec.Replicas = ptr.To(rapid.Int32Range(0, 12).Draw(t, "replicas"))
		case "strategy":
			c.deployment = d
			c.strategy(t)
		}
	})
}

// decide makes a plan and carries out some of it, each step under the eyes of
// the rules.
func (c *chaos) decide(t *rapid.T) {
	snapshot := c.snapshot()
	if c.late != nil {
		snapshot.Pods = c.late
	}
	plan := Decide(snapshot)
	few := len(plan.Steps)
	if rapid.Bool().Draw(t, "crash") {
		few = rapid.IntRange(0, few).Draw(t, "after")
	}
	budget := BudgetOf(c.deployment)
	truth := c.snapshot().Pods
	for _, step := range plan.Steps[:few] {
		available, total := min(c.certain(truth), c.certain(snapshot.Pods)), c.asked()
		if err := c.carryOut(step); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if now := c.certain(truth); now < min(available, budget.MinAvailable()) {
			t.Fatalf("%s\nleaves %d pods available of %d; %d must be\nplan:\n%s", step, now, available, budget.MinAvailable(), plan)
		}
		if now := c.asked(); now > max(total, budget.MaxTotal()) {
			t.Fatalf("%s\nasks for %d pods; %d may be\nplan:\n%s", step, now, budget.MaxTotal(), plan)
		}
	}
	for i, a := range c.sets {
		for _, b := range c.sets[:i] {
			if SameTemplate(&a.Spec.Template, &b.Spec.Template) {
				t.Fatalf("%s and %s have the same template", a.Name, b.Name)
			}
		}
	}
}

// certain is how many of the pods in a view stay available if each set now stops
// its surplus in the worst order it may: pods that are not ready, then available
// ones.
func (c *chaos) certain(view map[types.UID][]*corev1.Pod) (n int32) {
	for _, rs := range c.sets {
		active := slices.DeleteFunc(slices.Clone(view[rs.UID]), func(pod *corev1.Pod) bool { return !StateOf(pod).Active })
		c.worstFirst(active)
		surplus := max(len(active)-int(*rs.Spec.Replicas), 0)
		for _, pod := range active[surplus:] {
			if c.available(pod) {
				n++
			}
		}
	}
	return n
}

func (c *chaos) worstFirst(active []*corev1.Pod) {
	rank := func(pod *corev1.Pod) int {
		switch {
		case !StateOf(pod).Ready:
			return 0
		case c.available(pod):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(active, func(a, b *corev1.Pod) int { return rank(a) - rank(b) })
}

func (c *chaos) available(pod *corev1.Pod) bool {
	at, ok := StateOf(pod).AvailableAt(c.deployment.Spec.MinReadySeconds)
	return ok && !at.After(c.now)
}

func (c *chaos) asked() (n int32) {
	for _, rs := range c.sets {
		n += *rs.Spec.Replicas
	}
	return n
}

// oneSetActs lets one set make and stop pods, in the worst order.
func (c *chaos) oneSetActs(t *rapid.T) {
	if len(c.sets) == 0 {
		return
	}
	rs := pick(t, c.sets)
	active := c.those(rs, func(s PodState) bool { return s.Active })
	c.worstFirst(active)
	for i := 0; i < len(active)-int(*rs.Spec.Replicas); i++ {
		active[i].DeletionTimestamp = ptr.To(metav1.NewTime(c.now))
	}
	all := c.sets
	c.sets = []*appsv1.ReplicaSet{rs}
	c.settle()
	c.sets = all
}

func (c *chaos) flip(t *rapid.T, ready bool) {
	pods := c.those(nil, func(s PodState) bool { return s.Active && s.Ready != ready })
	if len(pods) > 0 {
		c.setReady(pick(t, pods), ready)
	}
}

// pick draws one of some things by its place, which prints shorter.
func pick[T any](t *rapid.T, from []T) T {
	return from[rapid.IntRange(0, len(from)-1).Draw(t, "which")]
}

func (c *chaos) fail(t *rapid.T) {
	if pods := c.those(nil, func(s PodState) bool { return s.Active }); len(pods) > 0 {
		pick(t, pods).Status.Phase = corev1.PodFailed
	}
}

// loseSet deletes a set by hand, and its pods with it.
func (c *chaos) loseSet(t *rapid.T) {
	if len(c.sets) == 0 || rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
		return
	}
	rs := pick(t, c.sets)
	for _, pod := range c.those(rs, func(s PodState) bool { return s.Active }) {
		pod.DeletionTimestamp = ptr.To(metav1.NewTime(c.now))
	}
	c.carryOut(Delete{ReplicaSet: rs})
}

// view is a copy of the pods as they are.
func (c *chaos) view() map[types.UID][]*corev1.Pod {
	view := c.snapshot().Pods
	for _, pods := range view {
		for i := range pods {
			pods[i] = pods[i].DeepCopy()
		}
	}
	return view
}

// calm ends the chaos: all pods succeed from now on, and the rollout completes.
func (c *chaos) calm(t *rapid.T) {
	c.edit(func(d *appsv1.Deployment) { d.Spec.Paused = false })
	c.settle()
	if _, err := c.run(); err != nil {
		t.Fatal(err)
	}
	replicas := *c.deployment.Spec.Replicas
	st := c.deployment.Status
	if st.Replicas != replicas || st.UpdatedReplicas != replicas || st.AvailableReplicas != replicas {
		t.Fatalf("ended with %s, not %d pods", SetStatus{Status: st}, replicas)
	}
	if old := len(c.sets) - 1; old > int(*c.deployment.Spec.RevisionHistoryLimit) {
		t.Fatalf("%d old sets are left\n%s", old, c.history())
	}
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
