package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTakenForDead: an agent that lives looks at its Node at once when that says that
// nothing is heard of it; one whose Lease is not renewed does not argue.
func TestTakenForDead(t *testing.T) {
	a := &Agent{cfg: Config{NodeName: "one", Lease: 40 * time.Second}, nodeNews: make(chan struct{}, 1)}
	feed := &Feed{agents: map[string]*Agent{"one": a}}
	for _, test := range []struct {
		name    string
		node    string
		ready   corev1.ConditionStatus
		renewed time.Duration // ago
		want    int
	}{
		{"it lives", "one", corev1.ConditionUnknown, time.Second, 1},
		{"it is not heard", "one", corev1.ConditionUnknown, time.Minute, 0},
		{"nobody says that it is dead", "one", corev1.ConditionTrue, time.Second, 0},
		{"another is", "two", corev1.ConditionUnknown, time.Second, 0},
	} {
		a.renewed.Store(time.Now().Add(-test.renewed).UnixNano())
		feed.nodeChanged(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: test.node},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: test.ready}}}})
		if got := len(a.nodeNews); got != test.want {
			t.Errorf("%s: looked at %d times, want %d", test.name, got, test.want)
		}
		for len(a.nodeNews) > 0 {
			<-a.nodeNews
		}
	}
}
