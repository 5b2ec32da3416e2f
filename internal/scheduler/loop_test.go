package scheduler

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

// fakeAPI keeps bindings and reports. Its cache lags: what it has is shown to
// the loop only when the test says so.
type fakeAPI struct {
	mu      sync.Mutex
	bound   map[types.UID]string
	reports []string
	fail    int // writes to fail before the next succeeds
	hold    chan struct{}
}

func (f *fakeAPI) bind(_ context.Context, pod *corev1.Pod, node string) outcome {
	if f.hold != nil {
		<-f.hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return failed
	}
	if _, twice := f.bound[pod.UID]; twice {
		panic("pod " + pod.Name + " was bound twice")
	}
	f.bound[pod.UID] = node
	return written
}

func (f *fakeAPI) report(_ context.Context, pod *corev1.Pod, reason, message string) outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports = append(f.reports, pod.Name+" "+reason)
	return written
}

// start runs a loop until the test ends.
func start(t *testing.T, api *fakeAPI) *loop {
	t.Helper()
	l := newLoop(api, logr.Discard())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func TestNoOverbookingBehindTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}}
		l := start(t, api)
		l.setNode(makeNode("a"))
		first, second := makePod("p", requests("1500m", "0")), makePod("q", requests("1500m", "0"))
		l.setPod(first)
		l.setPod(second)
		synctest.Wait()
		if len(api.bound) != 1 || len(api.reports) != 1 {
			t.Fatalf("bound %v, reports %v: want one of each", api.bound, api.reports)
		}
		// An old event of the bound pod must not schedule it again.
		stale := makePod("p", requests("1500m", "0"), func(p *corev1.Pod) { p.ResourceVersion = "2" })
		l.setPod(stale)
		synctest.Wait()
		// The first pod ends: the second is tried again, and gets its place.
		l.setPod(makePod("p", requests("1500m", "0"), on("a")))
		l.removePod("p")
		synctest.Wait()
		if api.bound["q"] != "a" {
			t.Fatalf("bound %v: q did not get the place of p", api.bound)
		}
	})
}

func TestFailedBindingIsTakenBackAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}, fail: 3}
		l := start(t, api)
		l.setNode(makeNode("a"))
		l.setPod(makePod("p", requests("1500m", "0")))
		synctest.Wait()
		l.mu.Lock()
		assumed := l.cluster.assumed("p")
		l.mu.Unlock()
		if assumed {
			t.Fatal("the place of a pod whose binding failed is still taken")
		}
		time.Sleep(time.Second) // in the test's own time
		synctest.Wait()
		if api.bound["p"] != "a" {
			t.Fatal("not tried again until it succeeded")
		}
	})
}

func TestPodGoneWhileBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}, hold: make(chan struct{}, 9)}
		l := start(t, api)
		l.setNode(makeNode("a"))
		l.setPod(makePod("p", requests("1500m", "0")))
		synctest.Wait()
		l.removePod("p")
		l.setPod(makePod("q", requests("1500m", "0")))
		api.hold <- struct{}{}
		api.hold <- struct{}{}
		synctest.Wait()
		if api.bound["q"] != "a" {
			t.Fatalf("bound %v: q did not get the place of the pod that went", api.bound)
		}
	})
}

func TestParkedUntilSomethingChanges(t *testing.T) {
	changes := map[string]func(l *loop){
		"a node appears":    func(l *loop) { l.setNode(makeNode("b")) },
		"the node is ready": func(l *loop) { l.setNode(makeNode("a")) },
		"the pod tolerates": func(l *loop) {
			l.setPod(makePod("p", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} }))
		},
		"nothing that helps": nil,
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &fakeAPI{bound: map[types.UID]string{}}
				l := start(t, api)
				l.setNode(makeNode("a", down))
				l.setPod(makePod("p"))
				synctest.Wait()
				if len(api.reports) != 1 || len(api.bound) != 0 {
					t.Fatalf("reports %v, bound %v", api.reports, api.bound)
				}
				if change == nil {
					l.setNode(makeNode("a", down, func(n *corev1.Node) { n.ResourceVersion = "7" })) // a heartbeat
					l.setPod(makePod("p", func(p *corev1.Pod) { p.ResourceVersion = "8" }))
					synctest.Wait()
					if len(api.reports) != 1 {
						t.Fatalf("reported again without a reason: %v", api.reports)
					}
					return
				}
				change(l)
				synctest.Wait()
				if api.bound["p"] == "" {
					t.Fatal("still parked")
				}
			})
		})
	}
}

func TestOthersPodsAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}}
		l := start(t, api)
		l.setNode(makeNode("a"))
		l.setPod(makePod("p", func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }))
		l.setPod(makePod("q", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }))
		synctest.Wait()
		if len(api.bound)+len(api.reports) != 0 {
			t.Fatalf("touched others' pods: %v %v", api.bound, api.reports)
		}
	})
}

// Whatever order events arrive in, the sums of a cluster are those of its pods,
// and no node has more than it can take.
func TestClusterSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster()
		c.setNode(makeNode("a"))
		c.setNode(makeNode("b"))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := fmt.Sprintf("p%d", rapid.IntRange(0, 9).Draw(t, "pod"))
			p := newPod(makePod(name, requests(fmt.Sprintf("%dm", rapid.IntRange(0, 900).Draw(t, "cpu")), "1Mi")))
			switch rapid.IntRange(0, 2).Draw(t, "event") {
			case 0:
				if d := decide(p, c.schedulable()); d.node != "" && c.pods[p.uid] == nil {
					c.assume(p, d.node)
				}
			case 1:
				if was := c.pods[p.uid]; was != nil { // the cache catches up
					seen := *was
					seen.assumed = false
					c.setPod(&seen)
				}
			case 2:
				c.removePod(p.uid)
			}
			for name, n := range c.nodes {
				var sum int64
				for _, p := range n.pods {
					sum += p.requests[corev1.ResourceCPU]
				}
				if sum != n.used[corev1.ResourceCPU] || sum > 2000 {
					t.Fatalf("node %s: sum %d, used %d of 2000", name, sum, n.used[corev1.ResourceCPU])
				}
			}
		}
	})
}
