package agent

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// Of the pods that wait for more, those get it first that matter most, as far as it goes.
func TestResizeOrder(t *testing.T) {
	a := &Agent{node: &nodeFacts{cpus: 4, memory: 1 << 30}, active: map[types.UID]*corev1.Pod{}, deferred: map[types.UID]*deferral{}, workers: map[types.UID]*worker{}}
	now := time.Now()
	waits := func(name string, cpu string, priority int32, guaranteed bool, since time.Duration) {
		pod := asking("cpu", cpu, "memory", "1Mi")
		if pod.UID, pod.Spec.Priority = types.UID(name), ptr.To(priority); guaranteed {
			pod.Spec.Containers[0].Resources.Limits = pod.Spec.Containers[0].Resources.Requests
		}
		a.active[pod.UID] = asking("cpu", "100m")
		a.deferred[pod.UID] = &deferral{pod, now.Add(-since)}
		a.workers[pod.UID] = &worker{wake: make(chan struct{}, 1)}
	}
	waits("young", "1", 0, false, time.Second)
	waits("old", "1", 0, false, time.Minute)
	waits("guaranteed", "1", 0, true, 0)
	waits("important", "1500m", 9, false, 0)
	waits("small", "200m", 0, false, 0)
	a.retryResizes()
	var left []string
	for name := range a.deferred {
		left = append(left, string(name))
	}
	slices.Sort(left)
	// 1500m and 1 and 1 of 4 leave 500m less the 100m of young and what small has.
	if want := []string{"young"}; !slices.Equal(left, want) {
		t.Errorf("%v still wait, want %v", left, want)
	}
}
