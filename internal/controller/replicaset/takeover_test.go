package replicaset

import (
	"testing"

	"windlass.dev/windlass/internal/controller/loop"
)

// takeOver begins another process on the same API; its cache is as late.
func (b *bench) takeOver() {
	cache := b.client
	b.begin(b.kind, cache)
	b.live = versioned(b.api)
}

func TestATakeoverSeesThePodsThatWereMade(t *testing.T) {
	b := newBench(t, replicaSets, newReplicaSet(5))
	b.mustReconcile()
	b.takeOver() // with a cache that shows none
	b.mustReconcile()
	b.wantPods(5)
}

func TestATakeoverSeesThePodsThatWereDeleted(t *testing.T) {
	for _, slowly := range []bool{false, true} {
		rs := newReplicaSet(5)
		if slowly {
			rs.Spec.Template.Finalizers = []string{holds}
		}
		b := newBench(t, replicaSets, rs)
		b.mustReconcile()
		b.look()
		b.resize(rs, 3)
		b.mustReconcile()
		b.resize(rs, 4)
		b.takeOver() // with a cache that shows five
		b.mustReconcile()
		running := 0
		for _, pod := range b.pods() {
			if pod.DeletionTimestamp == nil {
				running++
			}
		}
		if running != 4 {
			t.Errorf("stopping slowly=%v: %d pods, want 4", slowly, running)
		}
	}
}

func TestATakeoverWaitsForTheSetAsItWas(t *testing.T) {
	rs := newReplicaSet(5)
	b := newBench(t, replicaSets, rs)
	b.cachedSet = rs.DeepCopy()
	b.resize(rs, 1)
	b.cachedSet.ResourceVersion = "1" // that it had before
	b.takeOver()
	b.mustReconcile()
	b.wantPods(0)
	b.cachedSet = nil
	b.mustReconcile()
	b.wantPods(1)
}

func TestATakeoverLeavesSetsThatAreGone(t *testing.T) {
	rs := newReplicaSet(5)
	b := newBench(t, replicaSets, rs)
	b.cachedSet = rs.DeepCopy()
	b.cachedSet.ResourceVersion = "1"
	if err := b.api.Delete(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	b.takeOver()
	b.mustReconcile()
	b.wantPods(0)
}

// TestNothingIsDeletedForAnOrphanThatIsGone: an adoption that fails means that the
// count was wrong.
func TestNothingIsDeletedForAnOrphanThatIsGone(t *testing.T) {
	rs := newReplicaSet(1)
	b := newBench(t, replicaSets, rs, pod("mine", rs))
	b.look()
	b.cached = append(b.cached, *pod("orphan", rs, orphaned, ready(0)))
	if result := b.mustReconcile(); result.RequeueAfter != loop.StaleRetry {
		t.Errorf("it will not look again: %+v", result)
	}
	b.wantPods(1)
	if b.pods()[0].DeletionTimestamp != nil {
		t.Error("the pod that there is was deleted")
	}
}
