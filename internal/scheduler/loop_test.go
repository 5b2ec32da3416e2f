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
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/internal/scheduler/fit"
)

// fakeAPI keeps bindings and reports. Its cache lags: what it has is shown to
// the loop only when the test says so.
type fakeAPI struct {
	mu        sync.Mutex
	bound     map[types.UID]string
	reports   []string
	preempted []string
	nodes     map[string]string // of claims, by name; one that has a node has changed
	fail      int               // writes to fail before the next succeeds
	hold      chan struct{}
}

func (f *fakeAPI) bind(_ context.Context, pod *corev1.Pod, _ []*corev1.PersistentVolumeClaim, node string) outcome {
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

func (f *fakeAPI) selectNode(_ context.Context, claim *corev1.PersistentVolumeClaim, node string) outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return failed
	}
	if _, newer := f.nodes[claim.Name]; newer {
		return outdated
	}
	if f.nodes == nil {
		f.nodes = map[string]string{}
	}
	f.nodes[claim.Name] = node
	return written
}

func (f *fakeAPI) preempt(_ context.Context, pod *corev1.Pod, node string, victims []*corev1.Pod) outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return failed
	}
	for _, v := range victims {
		f.preempted = append(f.preempted, v.Name+" for "+pod.Name+" on "+node)
	}
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
		first, second := makePod("p", requests("1500m")), makePod("q", requests("1500m"))
		l.setPod(first)
		l.setPod(second)
		synctest.Wait()
		if len(api.bound) != 1 || len(api.reports) != 1 {
			t.Fatalf("bound %v, reports %v: want one of each", api.bound, api.reports)
		}
		// An old event of the bound pod must not schedule it again.
		stale := makePod("p", requests("1500m"), func(p *corev1.Pod) { p.ResourceVersion = "2" })
		l.setPod(stale)
		synctest.Wait()
		// The first pod ends: the second is tried again, and gets its place.
		l.setPod(makePod("p", requests("1500m"), on("a")))
		l.removePod("p")
		synctest.Wait()
		if api.bound["q"] != "a" {
			t.Fatalf("bound %v: q did not get the place of p", api.bound)
		}
	})
}

// A pod that is resized takes the most of what it asks for, was allotted and is held
// to; what it gives back others get.
func TestResizedPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}}
		l := start(t, api)
		l.setNode(makeNode("a"))
		held := func(cpu string) func(*corev1.Pod) {
			return func(p *corev1.Pod) {
				list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: list, Resources: &corev1.ResourceRequirements{Requests: list}}}
			}
		}
		l.setPod(makePod("p", on("a"), requests("500m"), held("1500m"))) // it asks for less and does not have that yet
		l.setPod(makePod("q", requests("1")))
		synctest.Wait()
		if len(api.bound) != 0 {
			t.Fatalf("bound %v although p still has its CPU", api.bound)
		}
		l.setPod(makePod("p", on("a"), requests("500m"), held("500m")))
		synctest.Wait()
		if api.bound["q"] != "a" {
			t.Fatalf("bound %v: q did not get what p gave back", api.bound)
		}
		l.setPod(makePod("p", on("a"), requests("1"), held("500m"))) // it asks for all that is left
		l.setPod(makePod("r", requests("100m")))
		synctest.Wait()
		if api.bound["r"] != "" {
			t.Fatalf("bound %v: r got what p asks for", api.bound)
		}
	})
}

func TestFailedBindingIsTakenBackAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}, fail: 3}
		l := start(t, api)
		l.setNode(makeNode("a"))
		l.setPod(makePod("p", requests("1500m")))
		synctest.Wait()
		l.mu.Lock()
		assumed := l.cluster.Assumed("p")
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
		l.setPod(makePod("p", requests("1500m")))
		synctest.Wait()
		l.removePod("p")
		l.setPod(makePod("q", requests("1500m")))
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

// A pod that fits nowhere has less important ones make way, once, and gets their
// place when they are gone, before others.
func TestPreemption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}}
		l := start(t, api)
		l.setNode(makeNode("a"))
		l.setPod(makePod("low", requests("1500m"), on("a")))
		important := makePod("p", requests("1500m"), func(p *corev1.Pod) { p.Spec.Priority = new(int32); *p.Spec.Priority = 10 })
		l.setPod(important)
		synctest.Wait()
		if want := "low for p on a"; len(api.preempted) != 1 || api.preempted[0] != want {
			t.Fatalf("preempted %v, want %s", api.preempted, want)
		}
		l.setPod(makePod("low", requests("1500m"), on("a"), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }))
		l.setPod(makePod("q", requests("100m")))
		l.setPod(makePod("q2", requests("500m"))) // would fit beside the victim, and then keep p out
		synctest.Wait()
		if len(api.preempted) != 1 || api.bound["p"] != "" || api.bound["q2"] != "" {
			t.Fatalf("preempted %v, bound %v while the victim is going", api.preempted, api.bound)
		}
		l.removePod("low")
		synctest.Wait()
		if api.bound["p"] != "a" {
			t.Fatalf("bound %v: p did not get the place that was made for it", api.bound)
		}
	})
}

// Who makes way for a pod is told until they are, goes on to be counted upon by the next
// process, and is not waited for on a node where the pod cannot go any more.
func TestPreemptionGoesOn(t *testing.T) {
	important := func(change ...func(*corev1.Pod)) *corev1.Pod {
		return makePod("p", append(change, requests("1500m"), func(p *corev1.Pod) { p.Spec.Priority = new(int32); *p.Spec.Priority = 10 })...)
	}
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	for name, test := range map[string]struct {
		fail int
		do   func(*loop)
		want string
	}{
		"the deletion failed": {1, func(l *loop) { l.setPod(important()) }, "[low for p on a]"},
		"a new process": {0, func(l *loop) {
			l.setPod(makePod("low", requests("1500m"), on("a"), going))
			l.setPod(makePod("low2", requests("1500m"), on("b")))
			l.setPod(important(func(p *corev1.Pod) { p.Status.NominatedNodeName = "a" }))
		}, "[]"},
		"the node is lost": {0, func(l *loop) {
			l.setPod(makePod("low2", requests("1500m"), on("b"), func(p *corev1.Pod) { p.Spec.Priority = new(int32); *p.Spec.Priority = 1 }))
			l.setPod(important())
			synctest.Wait()
			l.setPod(makePod("low", requests("1500m"), on("a"), going))
			l.setNode(makeNode("a", down))
		}, "[low for p on a low2 for p on b]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &fakeAPI{bound: map[types.UID]string{}, fail: test.fail}
				l := start(t, api)
				l.setNode(makeNode("a"))
				l.setPod(makePod("low", requests("1500m"), on("a")))
				if name != "the deletion failed" {
					l.setNode(makeNode("b"))
				}
				test.do(l)
				synctest.Wait()
				time.Sleep(time.Second) // in the test's own time
				synctest.Wait()
				if got := fmt.Sprint(api.preempted); got != test.want {
					t.Errorf("preempted %s, want %s", got, test.want)
				}
			})
		})
	}
}

// While it is not seen yet that others make way, pods that wait for that do not wake
// each other.
func TestPreemptionIsCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}}
		l := start(t, api)
		for _, name := range []string{"a", "b"} {
			l.setNode(makeNode(name))
			l.setPod(makePod("low-"+name, requests("1500m"), on(name)))
		}
		for _, name := range []string{"p", "q"} {
			l.setPod(makePod(name, requests("1500m"), func(p *corev1.Pod) { p.Spec.Priority = new(int32); *p.Spec.Priority = 10 }))
		}
		synctest.Wait()
		l.learn(func(*fit.Cluster) {}) // all that wait are looked at again
		synctest.Wait()
		if n := len(api.preempted); n < 2 || n > 4 {
			t.Errorf("preempted %v", api.preempted)
		}
	})
}

// A pod that has to be beside others is looked at again when one is placed.
func TestSocialPodsAreWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}}
		l := start(t, api)
		l.setNode(makeNode("a", func(n *corev1.Node) { n.Labels = map[string]string{"zone": "one"} }))
		l.setPod(makePod("p", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			}}}}
		}))
		synctest.Wait()
		if len(api.bound) != 0 {
			t.Fatalf("bound %v without a neighbour", api.bound)
		}
		l.setPod(makePod("q", on("a"), func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} }))
		synctest.Wait()
		if api.bound["p"] != "a" {
			t.Fatalf("bound %v: p was not looked at again", api.bound)
		}
	})
}

// A pod that others keep away is looked at again when its labels change.
func TestLabelsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}}
		l := start(t, api)
		l.setNode(makeNode("a", func(n *corev1.Node) { n.Labels = map[string]string{"zone": "one"} }))
		l.setPod(makePod("q", on("a"), func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			}}}}
		}))
		l.setPod(makePod("p", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} }))
		synctest.Wait()
		if len(api.bound) != 0 {
			t.Fatalf("bound %v beside a pod that is averse to it", api.bound)
		}
		l.setPod(makePod("p", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} }))
		synctest.Wait()
		if api.bound["p"] != "a" {
			t.Fatalf("bound %v: p was not looked at again", api.bound)
		}
	})
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

func makeNode(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourcePods: resource.MustParse("10")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func makePod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), ResourceVersion: "1"},
		Spec:       corev1.PodSpec{SchedulerName: corev1.DefaultSchedulerName, Containers: []corev1.Container{{Name: "c"}}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func requests(cpu string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func down(n *corev1.Node) {
	n.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown"}
}
