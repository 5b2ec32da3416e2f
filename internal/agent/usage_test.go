package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// CPU is a rate: over the time between two readings, or since the start of a
// container that is younger. Memory is what it is.
func TestUsage(t *testing.T) {
	at := func(seconds float64) time.Time { return stepEpoch.Add(time.Duration(seconds * float64(time.Second))) }
	pods := map[types.UID]*corev1.Pod{}
	for _, name := range []string{"b", "a"} {
		pods[types.UID(name)] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}}
	}
	reading := func(now time.Time, node time.Duration, containers ...ContainerUsage) Usage {
		return Usage{At: now, Node: Used{CPU: node, Memory: 4096}, Containers: containers}
	}
	used := func(pod, name string, started time.Time, cpu time.Duration, memory int64) ContainerUsage {
		return ContainerUsage{ID: pod + name, PodUID: pod, Name: name, StartedAt: started, Used: Used{CPU: cpu, Memory: memory}}
	}
	base := reading(at(10), 5*time.Second, used("a", "y", at(0), time.Second, 1), used("b", "x", at(0), 9*time.Second, 7))
	now := reading(at(20), 15*time.Second,
		used("a", "y", at(0), 3500*time.Millisecond, 2), // 2.5 s in 10 s
		used("a", "x", at(18), 500*time.Millisecond, 3), // 0.5 s since its start 2 s ago
		used("b", "x", at(0), 8*time.Second, 8),         // less than before: its group was made anew
		used("gone", "x", at(0), 8*time.Second, 8),      // nobody's
	)
	node := nodeMetrics("n", base, now)
	if got := fmt.Sprint(node.Name, node.Usage.Cpu(), node.Usage.Memory(), node.Window.Duration, node.Timestamp.Time.Equal(at(20))); got != "n1 4Ki 10s true" {
		t.Errorf("the node: %s", got)
	}
	var lines []string
	for _, m := range podMetrics(pods, base, now) {
		line := fmt.Sprintf("%s/%s %s", m.Namespace, m.Name, m.Window.Duration)
		for _, c := range m.Containers {
			line += fmt.Sprintf(" %s=%s,%s", c.Name, c.Usage.Cpu(), c.Usage.Memory())
		}
		lines = append(lines, line)
	}
	if got, want := strings.Join(lines, "\n"), "ns/a 2s x=250m,3 y=250m,2\nns/b 10s x=0,8"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if m := podMetrics(pods, Usage{}, now); len(m) != 2 || m[0].Window.Duration != 2*time.Second || m[1].Containers[0].Usage.Cpu().MilliValue() != 400 {
		t.Errorf("before the first reading: %+v", m)
	}
	if m := nodeMetrics("n", Usage{}, now); m.Window.Duration != leastWindow {
		t.Errorf("before the first reading: %+v", m)
	}

	var r readings
	for i := range 3 {
		r.add(reading(at(float64(i)), 0))
	}
	if got := r.base().At; !got.Equal(at(1)) {
		t.Errorf("the base is of %s", got)
	}
}
