package agent

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/reference"

	"windlass.dev/windlass/internal/agent/volume"
	"windlass.dev/windlass/internal/condition"
)

// statusPatience is how long a change of the status waits for others to be
// written with it, unless it is urgent.
const statusPatience = 200 * time.Millisecond

// worker lives the life of one pod: it calls Step, does what that says, and
// waits for something to change. Only its own goroutine touches its state;
// others post to it.
type worker struct {
	agent *Agent

	pod     *corev1.Pod // the newest that is known, the API's or the answer to our own write
	seen    Observed
	cancels map[string]context.CancelFunc // of acts in flight, by key
	acts    sync.WaitGroup

	want       *report   // as last decided
	dirtySince time.Time // when the status began to differ from the API's
	writing    bool
	written    *report   // what was last written
	writtenAt  string    // the resourceVersion that the write made
	writeAgain time.Time // after a failed write
	writeFails int
	lastWhy    string

	materials map[volume.Material]bool // that the pod's volumes are made of

	pullSecrets string // the version of the pull secrets that an image was last tried with

	first firstStart

	draining atomic.Bool // changes of routes concern it

	mu    sync.Mutex
	inbox []func()
	over  bool                     // nobody reads the inbox any more
	ends  map[string]chan struct{} // of containers that are waited for, by ID; closed when they have ended
	wake  chan struct{}
}

func newWorker(a *Agent, pod *corev1.Pod, seen Observed) *worker {
	seen.Node = NodeAddress{Name: a.cfg.NodeName, IP: a.cfg.NodeIP}
	for i := range seen.Containers {
		if c := &seen.Containers[i]; c.Phase == ContainerExited {
			c.Message = a.lastWords(pod, *c)
		}
	}
	return &worker{
		agent: a, pod: pod, seen: seen,
		cancels:   map[string]context.CancelFunc{},
		ends:      map[string]chan struct{}{},
		materials: volume.Materials(pod),
		first:     followStart(a.cfg.Stages, pod, time.Now()),
		wake:      make(chan struct{}, 1),
	}
}

// post has f called by the worker's goroutine before its next decision. A nil f
// only wakes it. It reports false if the worker has ended.
func (w *worker) post(f func()) bool {
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return false
	}
	if f != nil {
		w.inbox = append(w.inbox, f)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

func (w *worker) readInbox() {
	w.mu.Lock()
	inbox := w.inbox
	w.inbox = nil
	w.mu.Unlock()
	for _, f := range inbox {
		f()
	}
}

// run decides and acts until the pod is gone or ctx ends. Acts that make or
// remove something on the node are waited for, so that none is cut in the middle.
func (w *worker) run(ctx context.Context) {
	defer w.end()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		w.readInbox()
		w.tellEnds()
		now := time.Now()
		w.readRoutes(ctx, now)
		decision := Step(now, w.pod, w.seen)
		w.seen.Memory, w.want = decision.Memory, &report{decision.Status, decision.Memory.Moments}
		w.first.decided(&decision, now)
		w.explain(decision)
		if condition.Ended(decision.Status.Phase) || w.seen.Verdict != nil {
			w.agent.letOut(w.pod.UID) // before the API knows
		}
		if decision.Done {
			return
		}
		if decision.Ending {
			w.cancelBeginnings()
		}
		for _, act := range decision.Acts {
			if act.Kind == ActDeletePod && w.writing {
				continue // it tells the last status unless that is being told: the end of the write asks again
			}
			w.begin(ctx, act)
		}
		wakeAt := earlier(decision.WakeAt, w.writeStatus(ctx, now, w.want))
		timer.Reset(sleepUntil(now, wakeAt))
		select {
		case <-ctx.Done():
		case <-w.wake:
		case <-timer.C:
		}
	}
}

func (w *worker) end() {
	w.acts.Wait()
	w.mu.Lock()
	w.over = true
	for _, ended := range w.ends {
		close(ended)
	}
	w.ends = nil
	w.mu.Unlock()
	w.readInbox()
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// sleepUntil keeps a decision that is due at once from being repeated without a pause.
func sleepUntil(now, at time.Time) time.Duration {
	if at.IsZero() {
		return time.Hour
	}
	return max(at.Sub(now), time.Millisecond)
}

// learn takes in the pod as the API has it, unless something newer is known.
func (w *worker) learn(pod *corev1.Pod) {
	if older(pod, w.pod) {
		return
	}
	if pod.DeletionTimestamp != nil && (w.pod.DeletionTimestamp == nil || !pod.DeletionTimestamp.Equal(w.pod.DeletionTimestamp)) {
		w.seen.DeletionSeen = time.Now()
	}
	if volume.Downward(pod) && retold(w.pod, pod) {
		w.seen.VolumeChanges++
	}
	w.pod = pod
	w.allot()
}

func older(a, b *corev1.Pod) bool {
	x, errX := strconv.ParseUint(a.ResourceVersion, 10, 64)
	y, errY := strconv.ParseUint(b.ResourceVersion, 10, 64)
	return errX == nil && errY == nil && x < y
}

// giveUp fails the pod, for a reason of the node's, unless it has ended already.
func (w *worker) giveUp(verdict *Verdict) {
	if w.seen.Verdict != nil || w.seen.Gone || condition.Ended(w.pod.Status.Phase) {
		return
	}
	w.seen.Verdict = verdict
	w.tell(Event{"", corev1.EventTypeWarning, verdict.Reason, strings.TrimPrefix(verdict.Message, rejected)})
}

func (w *worker) record(c Container) {
	if c.Phase == ContainerExited {
		c.Message = w.agent.lastWords(w.pod, c)
	}
	w.seen.Record(c)
	if c.Phase == ContainerExited {
		for _, kind := range []ProbeKind{StartupProbe, ReadinessProbe, LivenessProbe} {
			delete(w.seen.Probes, ProbeKey{c.ID, kind})
		}
		delete(w.seen.PostStarts, c.ID)
		delete(w.seen.Stops, c.ID)
	}
}

func (w *worker) explain(d Decision) {
	for _, e := range d.Events {
		w.tell(e)
	}
	if d.Why != w.lastWhy {
		w.lastWhy = d.Why
		w.agent.cfg.Log.Debug("Pod", "namespace", w.pod.Namespace, "name", w.pod.Name, "why", d.Why)
	}
}

// tell records an Event about the pod or one of its containers.
func (w *worker) tell(e Event) {
	path := ""
	if e.Container != "" && !isImageVolume(e.Container) {
		path = "spec.containers{" + e.Container + "}"
		for i := range w.pod.Spec.EphemeralContainers {
			if w.pod.Spec.EphemeralContainers[i].Name == e.Container {
				path = "spec.ephemeralContainers{" + e.Container + "}"
			}
		}
		for i := range w.pod.Spec.InitContainers {
			if w.pod.Spec.InitContainers[i].Name == e.Container {
				path = "spec.initContainers{" + e.Container + "}"
			}
		}
	}
	object, err := reference.GetPartialReference(scheme.Scheme, w.pod, path)
	if err != nil {
		w.agent.cfg.Log.Error("Telling an event", "pod", w.pod.Name, "err", err)
		return
	}
	w.agent.cfg.Recorder.Event(object, e.Type, e.Reason, e.Message)
}

// readRoutes reads who may send the pod traffic while that matters.
func (w *worker) readRoutes(ctx context.Context, now time.Time) {
	ends := w.pod.DeletionTimestamp != nil || expired(now, w.pod)
	matters := ends && w.seen.Memory.Drain.DoneAt.IsZero()
	for key, state := range w.seen.Probes {
		matters = matters || state.Failed && key.Kind != ReadinessProbe
	}
	matters = matters && !w.seen.Gone && !drainOff(w.pod)
	w.draining.Store(matters)
	if !matters {
		return
	}
	routes, err := readRoutes(ctx, w.agent.cfg.Cache, w.pod)
	if err != nil {
		w.agent.cfg.Log.Error("Reading routes", "pod", w.pod.Name, "err", err)
		return
	}
	w.seen.Routes = routes
}

// begin starts an act beside the worker, which hears of its result by post.
func (w *worker) begin(ctx context.Context, act Act) {
	key := act.Key()
	own, cancel := ctx, context.CancelFunc(func() {})
	switch act.Kind {
	case ActEnsureImage, ActRecheckImage, ActProbe, ActLook, ActPostStart, ActPreStop:
		own, cancel = context.WithCancel(ctx)
	default: // is not cut in the middle when the agent ends
		own = context.WithoutCancel(ctx)
	}
	w.cancels[key] = cancel
	w.seen.InFlight[key] = true
	if act.Kind == ActStop || act.Kind == ActKill { // a hook that still runs is too late
		for _, hook := range []ActKind{ActPostStart, ActPreStop} {
			if cut := w.cancels[Act{Kind: hook, ID: act.ID}.Key()]; cut != nil {
				cut()
			}
		}
	}
	work, began := w.prepare(act), time.Now()
	w.first.begins(act, began)
	w.acts.Go(func() {
		learn, err := work(own)
		took := time.Since(began)
		w.post(func() {
			cancel()
			delete(w.cancels, key)
			delete(w.seen.InFlight, key)
			if !errors.Is(err, context.Canceled) {
				w.settle(act, err)
			}
			if err == nil {
				w.first.ends(act, took)
			}
			if err == nil && learn != nil {
				learn()
			}
		})
	})
}

// settle remembers whether an act has failed.
func (w *worker) settle(act Act, err error) {
	if err == nil {
		delete(w.seen.Failures, act.Key())
		return
	}
	failure := w.seen.Fail(act, reasonOf(act.Kind, err), err.Error(), time.Now())
	w.agent.cfg.Log.Warn("Act failed", "pod", w.pod.Namespace+"/"+w.pod.Name, "act", act.String(), "err", err, "failures", failure.Count)
	w.tellFailure(act, failure)
}

// cancelBeginnings ends what a pod that is being stopped has no use for.
func (w *worker) cancelBeginnings() {
	for key, cancel := range w.cancels {
		if kind := kindOf(key); kind == ActEnsureImage || kind == ActPostStart || w.seen.Gone {
			cancel()
		}
	}
}

// writeStatus begins to write the status if that is due, and returns when to
// look again otherwise; zero when the API has it.
func (w *worker) writeStatus(ctx context.Context, now time.Time, want *report) time.Time {
	if w.seen.Gone || w.pod.UID == "" || w.pod.Name == "" || w.upToDate(want) {
		w.dirtySince = time.Time{}
		return time.Time{}
	}
	if w.dirtySince.IsZero() {
		w.dirtySince = now
	}
	if w.writing || w.seen.InFlight[string(ActDeletePod)] {
		return time.Time{}
	}
	due := w.dirtySince.Add(statusPatience)
	if urgent(&w.pod.Status, &want.status) {
		due = now
	}
	if due.Before(w.writeAgain) {
		due = w.writeAgain
	}
	if now.Before(due) {
		return due
	}
	w.writing = true
	pod := w.pod
	w.acts.Go(func() {
		written, err := w.agent.writeStatus(ctx, pod, want)
		w.post(func() { w.wrote(want, written, err) })
	})
	return time.Time{}
}

// upToDate: the API has the status, or has taken what it would of it.
func (w *worker) upToDate(want *report) bool {
	return !want.news(reported(w.pod)) || w.written != nil && w.pod.ResourceVersion == w.writtenAt && !want.news(w.written)
}

func (w *worker) wrote(want *report, written *corev1.Pod, err error) {
	w.writing, w.dirtySince = false, time.Time{}
	if err != nil {
		w.writeFails++
		w.writeAgain = time.Now().Add(writeBackOff.delay(w.writeFails))
		w.agent.cfg.Log.Warn("Writing a pod's status", "pod", w.pod.Namespace+"/"+w.pod.Name, "err", err)
		return
	}
	w.writeFails, w.writeAgain = 0, time.Time{}
	w.written, w.writtenAt = want, written.ResourceVersion
	if took := w.first.written(&want.status, time.Now()); took != nil {
		w.agent.cfg.Log.Debug("Pod is ready", append([]any{"namespace", w.pod.Namespace, "name", w.pod.Name}, took...)...)
	}
	w.learn(written)
}

// ended returns a channel that is closed once a container has ended: the same for all
// who ask while it runs.
func (w *worker) ended(id string) <-chan struct{} {
	w.mu.Lock()
	ended := w.ends[id]
	if ended == nil {
		ended = make(chan struct{})
		if w.over {
			close(ended)
		} else {
			w.ends[id] = ended
		}
	}
	w.mu.Unlock()
	w.post(nil) // it may have ended
	return ended
}

// tellEnds tells those who wait for a container that has ended.
func (w *worker) tellEnds() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, ended := range w.ends {
		if !slices.ContainsFunc(w.seen.Containers, func(c Container) bool { return c.ID == id && c.Phase == ContainerRunning }) {
			close(ended)
			delete(w.ends, id)
		}
	}
}

// errPodEnded: the worker has ended, so the pod has.
var errPodEnded = errors.New("the pod has ended")

// records returns the pod and its containers as the worker knows them.
func (w *worker) records(ctx context.Context) (*corev1.Pod, []Container, error) {
	type answer struct {
		pod        *corev1.Pod
		containers []Container
	}
	answers := make(chan answer, 1)
	if !w.post(func() { answers <- answer{w.pod, slices.Clone(w.seen.Containers)} }) {
		return nil, nil, errPodEnded
	}
	select {
	case a := <-answers:
		return a.pod, a.containers, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}
