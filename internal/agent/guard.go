package agent

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/eviction"
	"windlass.dev/windlass/internal/agent/volume"
)

// measureShare bounds the time that measuring what pods hold may take, as long as
// there is no need to hurry.
const measureShare = 5

// guard is what is remembered of the disk from one look to the next.
type guard struct {
	before     eviction.Reading
	base, last eviction.Sample
	took       time.Duration // to measure the last
	critical   bool          // at the last look
	ballast    ballast
}

// keepGuard watches the file system of the data directory, and kills the pod that
// is about to fill it, until ctx ends. Evictions for disk pressure come later and
// look at who holds most: they would let a pod take in a second what everybody
// else has to write to.
func (a *Agent) keepGuard(ctx context.Context) {
	g := guard{ballast: ballast{dir: filepath.Join(a.cfg.DataDir, "ballast")}}
	for ctx.Err() == nil {
		rest(ctx, a.guardDisk(ctx, &g))
	}
}

// guardDisk looks once, and returns how long to wait before the next look.
func (a *Agent) guardDisk(ctx context.Context, g *guard) time.Duration {
	levels, err := a.cfg.Levels(Usage{})
	if err != nil {
		a.cfg.Log.Warn("Reading what is left of the disk", "err", err)
		return meterEvery
	}
	now := eviction.Reading{At: time.Now(), Space: levels[eviction.NodeFSAvailable], Inodes: levels[eviction.NodeFSInodesFree]}
	watch := eviction.Look(g.before, now)
	g.before = now
	if g.critical && watch.Critical == "" {
		a.relieveSoon() // the node can say that all is well again
	}
	g.critical = watch.Critical != ""
	if !a.cfg.NoFiles {
		g.weigh(a, watch, now.Space.Capacity)
	}
	if !watch.Measure || watch.Critical == "" && now.At.Sub(g.last.At) < measureShare*g.took {
		return watch.Next
	}
	known := g.sample(ctx, a, now)
	if watch.Critical == "" || ctx.Err() != nil {
		return watch.Next
	}
	if culprit := eviction.Contain(g.base, g.last, watch.Critical); culprit != nil {
		a.cfg.Log.Warn("Killing the pod that fills the disk", "namespace", culprit.Pod.Namespace, "name", culprit.Pod.Name, "why", culprit.Message)
		a.evict(culprit, 0)
		return watch.Next
	}
	if !known {
		return watch.Next // the next sample has something to be compared with
	}
	a.relieveSoon()
	return max(time.Second, measureShare*g.took)
}

// weigh gives the ballast up where nothing else is left, and makes it anew when
// there is enough again.
func (g *guard) weigh(a *Agent, watch eviction.Watch, capacity int64) {
	var err error
	switch {
	case watch.Exhausted:
		err = g.ballast.drop()
	case watch.Critical == "":
		err = g.ballast.hold(capacity)
	}
	if err != nil {
		a.cfg.Log.Warn("The disk's ballast", "err", err)
	}
}

// sample measures what pods hold, and reports whether there is an earlier sample
// to compare it with.
func (g *guard) sample(ctx context.Context, a *Agent, now eviction.Reading) bool {
	used, err := a.cfg.Meter.Usage(ctx)
	if err != nil {
		a.cfg.Log.Warn("Reading what the node uses", "err", err)
		return true
	}
	g.base = eviction.Base(g.base, g.last, now.At)
	g.last = eviction.Sample{Reading: now, Pods: a.measure(ctx, used, func(*corev1.Pod) bool { return true })}
	for i := range g.last.Pods {
		g.last.Pods[i].Claims = a.claimed(ctx, g.last.Pods[i].Spec)
	}
	g.took = time.Since(now.At)
	return !g.base.At.IsZero()
}

// claimed measures the node's own volumes that a pod claims. What cannot be
// measured counts as nothing.
func (a *Agent) claimed(ctx context.Context, pod *corev1.Pod) (total eviction.Disk) {
	isClaim := func(v corev1.Volume) bool { return volume.ClaimName(pod, &v) != "" }
	if a.cfg.NoFiles || !slices.ContainsFunc(pod.Spec.Volumes, isClaim) {
		return total
	}
	places, err := volume.Locate(a.volumesDir(pod), pod, a.claims(ctx, pod))
	if err != nil {
		a.cfg.Log.Debug("Measuring claims", "err", err)
	}
	for _, place := range places {
		if !strings.HasPrefix(place.Path, a.localVolumesDir()+"/") {
			continue
		}
		disk, err := DiskUsage(ctx, place.Path)
		if err != nil {
			a.cfg.Log.Debug("Measuring claims", "err", err)
			continue
		}
		total.Bytes, total.Inodes = total.Bytes+disk.Bytes, total.Inodes+disk.Inodes
	}
	return total
}

// relieveSoon has the node's levels looked at without waiting for the turn.
func (a *Agent) relieveSoon() {
	select {
	case a.short <- struct{}{}:
	default:
	}
}
