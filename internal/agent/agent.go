package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
)

// Agent lives the life of one node's pods.
type Agent struct {
	cfg  Config
	node *nodeFacts

	mu        sync.Mutex
	ctx       context.Context // of Run, for workers
	workers   map[types.UID]*worker
	found     map[types.UID]*remains     // on the node at start, not yet claimed by a pod
	active    map[types.UID]*corev1.Pod  // that were let in and have not ended, with the resources that they have
	deferred  map[types.UID]*deferral    // those of them that wait for more
	pressures []corev1.NodeConditionType // that the node is under
	running   sync.WaitGroup

	users    userRanges
	readings readings
	shm      sync.Mutex // held while a pod's shared memory is mounted

	follower *follower // of what volumes are made of; nil if they do not follow
	relief   relief
	short    chan struct{} // the node is short of something: its levels are to be looked at
	nodeNews chan struct{} // what the Node should say has changed
	renewed  atomic.Int64  // when the node's Lease last was, in nanoseconds of Unix time

	awaiting sync.Mutex // held while the proxies are asked, so that the last word is the highest
	awaited  uint64     // the version that they have been asked for
}

// remains is what an agent finds of a pod when it starts.
type remains struct {
	containers []Container
	network    *PodNetwork
}

// New returns an agent. It starts nothing.
func New(cfg Config) (*Agent, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	facts, err := readNodeFacts(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("learn about the node: %w", err)
	}
	if cfg.CPUs > 0 {
		facts.cpus = cfg.CPUs
	}
	if cfg.Memory > 0 {
		facts.memory = cfg.Memory
	}
	a := &Agent{cfg: cfg, node: facts, workers: map[types.UID]*worker{}, active: map[types.UID]*corev1.Pod{}, short: make(chan struct{}, 1), nodeNews: make(chan struct{}, 1)}
	a.users.dir = a.podsDir()
	if a.cfg.Levels == nil {
		a.cfg.Levels = a.levels
	}
	return a, nil
}

// Run registers the node, takes over the containers that are there, and lives
// the life of the node's pods until ctx ends. Containers are left running. It
// returns an error only if it could not begin.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.look(ctx); err != nil {
		return err
	}
	a.ctx = ctx
	if a.cfg.Direct != nil && !a.cfg.NoFiles {
		a.follower = newFollower(a.cfg.Direct, a.materialChanged)
		defer a.follower.wait()
	}
	defer a.running.Wait()
	defer a.cfg.Feed.leave(a)
	if err := a.cfg.Feed.follow(ctx, a); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	a.takeAwayOrphans()

	var parts sync.WaitGroup
	parts.Go(func() { a.watchExits(ctx) })
	parts.Go(func() { a.keepNode(ctx) })
	parts.Go(func() { a.keepLease(ctx) })
	if a.cfg.Meter != nil {
		parts.Go(func() { a.keepMeter(ctx) })
		parts.Go(func() { a.keepGuard(ctx) })
	}
	parts.Go(func() { a.keepVolumes(ctx) })
	parts.Go(func() { a.keepImages(ctx) })
	if a.cfg.Listener != nil {
		parts.Go(func() { a.serve(ctx) })
	}
	<-ctx.Done()
	parts.Wait()
	return nil
}

// look finds out what is on the node.
func (a *Agent) look(ctx context.Context) error {
	containers, err := a.cfg.Runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	networks, err := a.cfg.Network.List(ctx)
	if err != nil {
		return fmt.Errorf("list pod networks: %w", err)
	}
	a.found = map[types.UID]*remains{}
	of := func(uid string) *remains {
		if a.found[types.UID(uid)] == nil {
			a.found[types.UID(uid)] = &remains{}
		}
		return a.found[types.UID(uid)]
	}
	for _, c := range containers {
		of(c.PodUID).containers = append(of(c.PodUID).containers, c)
	}
	for _, n := range networks {
		of(n.PodUID).network = &n
	}
	dirs, err := os.ReadDir(a.podsDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list pod directories: %w", err)
	}
	for _, dir := range dirs {
		of(dir.Name())
	}
	return nil
}

func waitFor(ctx context.Context, conditions []toolscache.InformerSynced) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for _, met := range conditions {
		for !met() {
			select {
			case <-ctx.Done():
				return false
			case <-tick.C:
			}
		}
	}
	return true
}

// deliver hands a pod of this node to its worker, which it makes if there is none.
func (a *Agent) deliver(pod *corev1.Pod) {
	a.mu.Lock()
	w := a.workers[pod.UID]
	if w == nil {
		w = a.employ(pod)
	}
	a.mu.Unlock()
	w.post(func() { w.learn(pod) })
}

// lose tells the worker of a pod that the API does not have it any more.
func (a *Agent) lose(uid types.UID) {
	a.mu.Lock()
	w := a.workers[uid]
	a.forgetActive(uid) // at once: who takes its place is told of next
	a.mu.Unlock()
	if w != nil {
		w.post(func() { w.seen.Gone = true })
	}
}

// employ makes and starts the worker of a pod. a.mu is held.
func (a *Agent) employ(pod *corev1.Pod) *worker {
	found := a.found[pod.UID]
	if found == nil {
		found = &remains{}
	}
	delete(a.found, pod.UID)
	w := newWorker(a, pod, Recall(time.Now(), pod, found.containers, found.network))
	if verdict := a.letIn(withResources(pod, w.seen.Allotment.Containers)); verdict != nil {
		w.post(func() { w.giveUp(verdict) })
	}
	a.workers[pod.UID] = w
	a.follow(w)
	a.running.Go(func() {
		w.run(a.ctx)
		a.unfollow(w)
		a.mu.Lock()
		a.forgetActive(pod.UID)
		delete(a.workers, pod.UID)
		a.mu.Unlock()
	})
	return w
}

// takeAwayOrphans begins to remove what is on the node of pods that the API
// does not have here. The API's pods have claimed theirs before.
func (a *Agent) takeAwayOrphans() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for uid := range a.found {
		a.cfg.Log.Info("Removing what is left of a pod that the API does not have", "uid", uid)
		orphan := &corev1.Pod{}
		orphan.UID = uid
		w := a.employ(orphan)
		w.post(func() { w.seen.Gone = true })
	}
}

func (a *Agent) watchExits(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-a.cfg.Runtime.Exits():
			a.mu.Lock()
			w := a.workers[types.UID(c.PodUID)]
			a.mu.Unlock()
			if w != nil {
				w.post(func() { w.record(c) })
			}
		}
	}
}

// wakeDraining wakes the workers that wait for routes to change.
func (a *Agent) wakeDraining() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if w.draining.Load() {
			w.post(nil)
		}
	}
}

func (a *Agent) podsDir() string { return filepath.Join(a.cfg.DataDir, "pods") }

func (a *Agent) podDir(uid types.UID) string { return filepath.Join(a.podsDir(), string(uid)) }

func (a *Agent) podLogDir(pod *corev1.Pod) string {
	return filepath.Join(a.cfg.DataDir, "logs", "pods", pod.Namespace+"_"+pod.Name+"_"+string(pod.UID))
}
