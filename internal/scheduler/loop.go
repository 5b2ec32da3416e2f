package scheduler

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/scheduler/fit"
)

const (
	// writers is how many bindings and conditions are written at a time.
	writers = 16

	// A pod whose write failed is looked at again after firstRetry, twice that
	// the next time, up to lastRetry.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// outcome is how a write ended.
type outcome int

const (
	written  outcome = iota // it is in the API
	outdated                // what was to be written has changed or is gone: the cache will show it
	failed                  // it is not in the API; try again
)

// api is what the loop writes. Every method answers once the outcome is certain.
type api interface {
	// bind gives a pod its node, if its claims are still those.
	bind(ctx context.Context, pod *corev1.Pod, claims []*corev1.PersistentVolumeClaim, node string) outcome
	// selectNode has a claim bound, or a volume made for it, on a node.
	selectNode(ctx context.Context, claim *corev1.PersistentVolumeClaim, node string) outcome
	// report sets a pod's PodScheduled condition to False and tells why.
	report(ctx context.Context, pod *corev1.Pod, reason, message string) outcome
	// preempt deletes the victims, and says in the pod which node they leave to it.
	preempt(ctx context.Context, pod *corev1.Pod, node string, victims []*corev1.Pod) outcome
}

// loop is the scheduler's state and the goroutine that empties the queue.
type loop struct {
	api api
	log logr.Logger

	mu      sync.Mutex
	cluster *fit.Cluster
	queue   *queue
	work    chan struct{} // holds one value while there may be something to look at
	slots   chan struct{} // one value for each writer that runs
}

func newLoop(api api, log logr.Logger) *loop {
	return &loop{
		api: api, log: log,
		cluster: fit.NewCluster(), queue: newQueue(),
		work: make(chan struct{}, 1), slots: make(chan struct{}, writers),
	}
}

// run looks at one pending pod after the other until ctx ends, and returns when
// all writes have ended.
func (l *loop) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for l.one(ctx, &running) {
		}
		select {
		case <-ctx.Done():
			return
		case <-l.work:
		}
	}
}

// one decides on the first pod of the queue and starts the write of it. It says
// whether there was a pod.
func (l *loop) one(ctx context.Context, running *sync.WaitGroup) bool {
	select {
	case <-ctx.Done():
		return false
	case l.slots <- struct{}{}: // before deciding, so that priorities count until the last moment
	}
	l.mu.Lock()
	it := l.queue.pop()
	if it == nil {
		l.mu.Unlock()
		<-l.slots
		return false
	}
	p := it.pod
	waited := l.cluster.Assumed(p.UID) // for its claims
	var d fit.Decision
	if waited {
		d = l.cluster.DecideAgain(p)
	} else {
		d = l.cluster.Decide(p)
	}
	if d.Node != "" {
		l.cluster.Assume(p, d.Node)
	} else if waited {
		l.wake() // its place is free
	}
	var room *fit.Preemption
	if d.Node == "" && d.Reason == corev1.PodReasonUnschedulable {
		room = l.makeRoom(p)
	}
	if d.Node == "" || len(d.Claims) > 0 {
		l.queue.park(it)
	}
	l.mu.Unlock()
	running.Go(func() {
		defer func() { <-l.slots }()
		l.write(ctx, p, d)
		if room != nil {
			l.preempt(ctx, p, room)
		}
	})
	return true
}

// makeRoom finds who is to make way for a pod that fits nowhere, unless others do so
// already. The place that was promised to it before is others' again.
func (l *loop) makeRoom(p *fit.Pod) *fit.Preemption {
	if l.cluster.AwaitsRoom(p) {
		return nil
	}
	room := l.cluster.Preempt(p)
	promised := l.cluster.Release(p.UID)
	if room != nil {
		l.cluster.Promise(p, room.Node)
	}
	if promised != "" && (room == nil || room.Node != promised) {
		l.wake()
	}
	return room
}

// write makes a decision true, or takes it back.
func (l *loop) write(ctx context.Context, p *fit.Pod, d fit.Decision) {
	if d.Node == "" {
		if !reported(p.Object, d) && l.api.report(ctx, p.Object, d.Reason, d.Why) == failed {
			l.later(p)
		}
		return
	}
	if len(d.Claims) > 0 {
		l.await(ctx, p, d)
		return
	}
	l.log.V(1).Info("Binding a pod", "pod", p.Object.Namespace+"/"+p.Object.Name, "node", d.Node, "why", d.Why)
	switch l.api.bind(ctx, p.Object, d.Bound, d.Node) {
	case written:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.queue.remove(p.UID)
	case outdated:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unassume(p.UID)
		l.queue.remove(p.UID)
	case failed:
		l.mu.Lock()
		l.unassume(p.UID)
		l.mu.Unlock()
		l.later(p)
	}
}

// await has a pod's claims bound on the node that was decided for it. The pod is
// parked meanwhile and keeps its place there, whatever becomes of the writes: one
// that seems to have failed, or that met a newer claim, may follow one that made
// the claim this node's. It is decided on again when a claim or a volume changes.
func (l *loop) await(ctx context.Context, p *fit.Pod, d fit.Decision) {
	for _, claim := range d.Claims {
		if claim.Spec.VolumeName != "" || claim.Annotations[volume.AnnSelectedNode] == d.Node {
			continue
		}
		l.log.V(1).Info("Selecting the node of a claim", "claim", claim.Namespace+"/"+claim.Name, "node", d.Node, "why", d.Why)
		if l.api.selectNode(ctx, claim, d.Node) == failed {
			l.later(p)
			return
		}
	}
}

// preempt has pods make way. What failed is found again when the pod is looked at
// next.
func (l *loop) preempt(ctx context.Context, p *fit.Pod, room *fit.Preemption) {
	var victims []*corev1.Pod
	for _, v := range room.Victims {
		victims = append(victims, v.Object)
	}
	l.log.V(1).Info("Preempting pods", "for", p.Object.Namespace+"/"+p.Object.Name, "node", room.Node, "victims", len(victims), "against their budgets", room.Against)
	if l.api.preempt(ctx, p.Object, room.Node, victims) == failed {
		l.later(p)
	}
}

// reported says whether the pod's condition already tells a decision.
func reported(p *corev1.Pod, d fit.Decision) bool {
	c := condition.Find(&p.Status, corev1.PodScheduled)
	return c != nil && c.Status == corev1.ConditionFalse && c.Reason == d.Reason && c.Message == d.Why
}

// unassume takes back an assumption that the cache has not confirmed.
func (l *loop) unassume(uid types.UID) {
	if l.cluster.Assumed(uid) {
		l.cluster.RemovePod(uid)
		l.wake()
	}
}

// later looks at a pod again after a failed write, if it is still pending then
// and nobody has looked at it meanwhile.
func (l *loop) later(p *fit.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.queue.items[p.UID]
	if it == nil {
		return
	}
	delay := min(firstRetry<<min(it.failures, 10), lastRetry)
	it.failures++
	time.AfterFunc(delay, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.queue.items[p.UID] == it && (l.queue.parked[p.UID] == it || !l.cluster.Assumed(p.UID)) {
			l.queue.add(it.pod)
			l.kick()
		}
	})
}

// wake looks at all parked pods again.
func (l *loop) wake() {
	l.queue.wake()
	l.kick()
}

func (l *loop) kick() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// setPod takes in a pod as the cache shows it.
func (l *loop) setPod(object *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case condition.Ended(object.Status.Phase):
		l.drop(object.UID)
	case object.Spec.NodeName != "":
		l.queue.remove(object.UID)
		l.cluster.Release(object.UID)
		p := fit.NewPod(object)
		if l.cluster.Frees(p) { // it was resized to less
			l.wake()
		}
		l.cluster.SetPod(p)
		if l.queue.wakeSocial() {
			l.kick()
		}
	case object.Spec.SchedulerName != "" && object.Spec.SchedulerName != corev1.DefaultSchedulerName:
	case object.DeletionTimestamp != nil && l.queue.parked[object.UID] != nil:
		l.drop(object.UID)
	case object.DeletionTimestamp != nil: // it may have been bound just now
		l.queue.remove(object.UID)
	default:
		l.pending(object)
	}
}

// pending takes in a pod that has no node. Only a change of its spec or its labels,
// which others may be averse to, is a reason to look at it before something else changes.
func (l *loop) pending(object *corev1.Pod) {
	it := l.queue.items[object.UID]
	switch {
	case it == nil && l.cluster.Assumed(object.UID): // bound since
	case it == nil:
		p := fit.NewPod(object)
		if node := object.Status.NominatedNodeName; node != "" { // others were told to make way, by the process before
			l.cluster.Promise(p, node)
		}
		l.queue.add(p)
		l.kick()
	case equality.Semantic.DeepEqual(it.pod.Object.Spec, object.Spec) && maps.Equal(it.pod.Object.Labels, object.Labels):
		same := *it.pod
		same.Object = object
		it.pod = &same
	case l.cluster.Assumed(object.UID): // being bound; if that fails, this is what is tried next
		it.pod = fit.NewPod(object)
	default:
		l.queue.add(fit.NewPod(object))
		l.kick()
	}
}

// removePod takes out a pod that is gone.
func (l *loop) removePod(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(uid)
}

// drop forgets a pod and lets others have its place.
func (l *loop) drop(uid types.UID) {
	l.queue.remove(uid)
	promised := l.cluster.Release(uid)
	if l.cluster.RemovePod(uid) || promised != "" {
		l.wake()
	}
}

// setNode takes in a node as the cache shows it.
func (l *loop) setNode(object *corev1.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cluster.SetNode(object) {
		l.wake()
	}
}

// setNamespace takes in a namespace's labels; nil when it is gone.
func (l *loop) setNamespace(name string, labels map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cluster.SetNamespace(name, labels) && l.queue.wakeSocial() {
		l.kick()
	}
}

// removeNode takes out a node that is gone. Parked pods are looked at again, so
// that their messages stay true.
func (l *loop) removeNode(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cluster.RemoveNode(name)
	l.wake()
}

// learn changes what is known of storage and looks at the parked pods again.
func (l *loop) learn(change func(*fit.Cluster)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l.cluster)
	l.wake()
}
