package owned

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestPace(t *testing.T) {
	big, other := types.NamespacedName{Name: "big"}, types.NamespacedName{Name: "other"}
	var p Pace
	now := time.Unix(0, 0)
	wait := func(owner types.NamespacedName, want time.Duration) {
		t.Helper()
		if got := p.Wait(owner, now); got != want {
			t.Errorf("%v after the begin %s has to wait %v, want %v", now.Sub(time.Unix(0, 0)), owner.Name, got, want)
		}
	}
	wait(big, 0)
	p.Looked(big, 5000, now)
	p.Looked(other, 100, now)
	wait(big, 50*time.Millisecond)
	wait(other, 0)
	now = now.Add(30 * time.Millisecond)
	wait(big, 20*time.Millisecond)
	now = now.Add(20 * time.Millisecond)
	wait(big, 0)
	if len(p.next) != 0 {
		t.Errorf("what is over is remembered: %v", p.next)
	}
}
