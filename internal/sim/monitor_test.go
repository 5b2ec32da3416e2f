package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// change is one change of an object, as the API told it.
type change struct {
	version uint64
	gone    bool
	object  metav1.Object
}

// monitor collects every change of Deployments, ReplicaSets and pods.
type monitor struct {
	mu        sync.Mutex
	changes   []change
	latest    map[types.UID]metav1.Object
	disrupted map[types.UID]bool // pods that the script has harmed
}

func startMonitor(t testing.TB, client kubernetes.Interface) *monitor {
	t.Helper()
	m := &monitor{latest: map[types.UID]metav1.Object{}, disrupted: map[types.UID]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for _, begin := range []func(context.Context, metav1.ListOptions) (watch.Interface, error){
		client.AppsV1().Deployments(namespace).Watch,
		client.AppsV1().ReplicaSets(namespace).Watch,
		client.AppsV1().StatefulSets(namespace).Watch,
		client.CoreV1().Pods(namespace).Watch,
	} {
		w, err := begin(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			defer w.Stop()
			for event := range w.ResultChan() {
				m.take(event)
			}
			if ctx.Err() == nil {
				t.Error("a watch of the monitor ended: it has missed changes")
			}
		})
	}
	return m
}

func (m *monitor) take(event watch.Event) {
	object, ok := event.Object.(metav1.Object)
	if !ok {
		return
	}
	version, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes = append(m.changes, change{version: version, gone: event.Type == watch.Deleted, object: object})
	m.latest[object.GetUID()] = object
	if event.Type == watch.Deleted {
		delete(m.latest, object.GetUID())
	}
}

// disrupt notes that the script harms a pod.
func (m *monitor) disrupt(pod *corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disrupted[pod.UID] = true
}

// seen is how many changes have come.
func (m *monitor) seen() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.changes)
}

// knows says whether the monitor has an object at its version.
func (m *monitor) knows(object metav1.Object) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.latest[object.GetUID()]
	return known != nil && known.GetResourceVersion() == object.GetResourceVersion()
}

// bounds are what a Deployment allows. A controller may not know of the last
// changes of its spec yet, so that until the rollout is complete the widest
// bounds since it was last complete hold.
type bounds struct{ most, least int }

func boundsOf(d *appsv1.Deployment) bounds {
	replicas := int(*d.Spec.Replicas)
	if d.Spec.Strategy.RollingUpdate == nil {
		return bounds{replicas, 0}
	}
	surge, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.Strategy.RollingUpdate.MaxSurge, replicas, true)
	unavailable, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.Strategy.RollingUpdate.MaxUnavailable, replicas, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return bounds{replicas + surge, max(0, replicas-unavailable)}
}

func complete(d *appsv1.Deployment) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == *d.Spec.Replicas &&
		s.Replicas == *d.Spec.Replicas && s.AvailableReplicas == *d.Spec.Replicas
}

// check puts all changes in the order in which they happened and returns what
// broke a promise:
//
//   - a ReplicaSet is to have more pods, and with it all together more than replicas plus surge,
//   - a pod is made for a ReplicaSet that has as many as it was to have at most,
//   - a pod that is ready is deleted while no more are available than have to be,
//   - a pod of a StatefulSet is made while there is another of its name.
//
// What is counted for the first is what ReplicaSets are to have, as Kubernetes
// does: a set may be told to have more before another has let go of its pods.
// A pod that the script has harmed counts as available, for ever: what becomes of
// it is no act of a controller, which may have decided before it knew.
func (m *monitor) check() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	ordered := slices.Clone(m.changes)
	slices.SortStableFunc(ordered, func(a, b change) int { return cmp.Compare(a.version, b.version) })
	r := &replay{
		disrupted: m.disrupted,
		pods:      map[types.UID]*corev1.Pod{}, allowed: map[string]bounds{},
		lost: map[string]int{}, asked: map[types.UID]int{}, most: map[types.UID]int{}, deployments: map[types.UID]string{},
	}
	for _, c := range ordered {
		switch object := c.object.(type) {
		case *appsv1.Deployment:
			r.deployment(object)
		case *appsv1.ReplicaSet:
			r.replicaSet(object, c.gone)
		case *appsv1.StatefulSet:
			r.statefulSet(object)
		case *corev1.Pod:
			if !c.gone {
				r.successor(object)
			}
			r.pod(object, c.gone)
		}
	}
	return r.broken
}

// replay is the state of the world while changes are replayed.
type replay struct {
	disrupted   map[types.UID]bool
	pods        map[types.UID]*corev1.Pod
	allowed     map[string]bounds    // by Deployment
	lost        map[string]int       // pods that the script has harmed and that are gone, by Deployment
	asked       map[types.UID]int    // how many a ReplicaSet is to have
	most        map[types.UID]int    // how many it was to have at most, since its Deployment was last complete
	deployments map[types.UID]string // of ReplicaSets
	broken      []string
}

func (r *replay) deployment(d *appsv1.Deployment) {
	now, before := boundsOf(d), r.allowed[d.Name]
	if _, known := r.allowed[d.Name]; known && !complete(d) {
		now.most, now.least = max(now.most, before.most), min(now.least, before.least)
	}
	r.allowed[d.Name] = now
	if !complete(d) {
		return
	}
	for uid, name := range r.deployments {
		if name == d.Name {
			r.most[uid] = r.asked[uid]
		}
	}
}

func (r *replay) replicaSet(rs *appsv1.ReplicaSet, gone bool) {
	owner := metav1.GetControllerOf(rs)
	if gone || owner == nil {
		delete(r.asked, rs.UID)
		return
	}
	r.deployments[rs.UID] = owner.Name
	before, now := r.asked[rs.UID], int(*rs.Spec.Replicas)
	r.asked[rs.UID] = now
	r.most[rs.UID] = max(r.most[rs.UID], now)
	all := 0
	for uid, asked := range r.asked {
		if r.deployments[uid] == owner.Name {
			all += asked
		}
	}
	if allowed, known := r.allowed[owner.Name]; known && now > before && all > allowed.most {
		r.say(rs, "was to have %d pods, which made %d of at most %d", now, all, allowed.most)
	}
}

func (r *replay) pod(pod *corev1.Pod, gone bool) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return
	}
	before := r.pods[pod.UID]
	r.pods[pod.UID] = pod
	if gone {
		delete(r.pods, pod.UID)
	}
	name := r.deployments[owner.UID]
	allowed, known := r.allowed[name]
	if !known {
		return
	}
	if gone && r.disrupted[pod.UID] {
		r.lost[name]++
	}
	own, available := 0, r.lost[name]
	for _, p := range r.pods {
		of := metav1.GetControllerOf(p)
		if of == nil || r.deployments[of.UID] != name {
			continue
		}
		if staying(p) && of.UID == owner.UID {
			own++
		}
		if staying(p) && ready(p) || r.disrupted[p.UID] {
			available++
		}
	}
	switch {
	case before == nil && own > r.most[owner.UID]:
		r.say(pod, "was made as number %d of its set, which was to have %d at most", own, r.most[owner.UID])
	case before != nil && staying(before) && ready(before) && !staying(pod) && !r.disrupted[pod.UID] && available < allowed.least:
		r.say(pod, "was deleted while ready, which left %d available of at least %d", available, allowed.least)
	}
}

func (r *replay) say(object metav1.Object, format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf("version %s: %s ", object.GetResourceVersion(), object.GetName())+fmt.Sprintf(format, args...))
}

// staying: the pod counts for its set.
func staying(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
