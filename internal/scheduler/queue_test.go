package scheduler

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/internal/scheduler/fit"
)

func TestQueueOrder(t *testing.T) {
	q := newQueue()
	add := func(name string, priority int32, created int64) {
		q.add(fit.NewPod(makePod(name, func(p *corev1.Pod) {
			p.Spec.Priority, p.CreationTimestamp = &priority, metav1.Time{Time: time.Unix(created, 0)}
		})))
	}
	add("young", 0, 9)
	add("old", 0, 1)
	add("same-second", 0, 9)
	add("urgent", 5, 9)
	add("gone", 9, 9)
	q.remove("gone")
	var got []string
	for it := q.pop(); it != nil; it = q.pop() {
		got = append(got, it.pod.Object.Name)
	}
	if want := "urgent old young same-second"; strings.Join(got, " ") != want {
		t.Errorf("order %v, want %s", got, want)
	}
}
