package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/internal/agent/eviction"
	"windlass.dev/windlass/internal/condition"
)

const (
	evictionGrace    = time.Second      // for a pod that the node can no longer afford, as kubelets give it
	evictionPatience = 30 * time.Second // for what it had to come back, before the next
	reclaimPatience  = 10 * time.Second // for the containers of pods that have finished to go
)

// relief is what is remembered of evictions from one look to the next.
type relief struct {
	met   map[corev1.NodeConditionType]time.Time // this and the next only the goroutine of keepMeter has
	since map[eviction.Threshold]time.Time

	mu      sync.Mutex
	evicted *corev1.Pod // the last
	at      time.Time
}

// relieve looks at what is left of the node, and gives up what nobody uses, and
// then pods, where it is too little. Only the goroutine of keepMeter calls it.
func (a *Agent) relieve(ctx context.Context, used Usage) {
	levels, err := a.cfg.Levels(used)
	if err != nil {
		a.cfg.Log.Warn("Reading what is left of the node", "err", err)
		return
	}
	facts := eviction.Facts{
		Now: used.At, Thresholds: a.cfg.Policy.Eviction, Levels: levels,
		Met: a.relief.met, Since: a.relief.since, Lasts: a.cfg.Policy.PressureLasts, Busy: a.evicting(used),
	}
	short := eviction.ShortOfDisk(facts)
	facts.Pods = a.measure(ctx, used, func(pod *corev1.Pod) bool { return short || eviction.Measured(pod) })
	plan := eviction.Decide(facts)
	if plan.Reclaim {
		a.setPressures(plan.Conditions)
		a.cfg.Log.Debug("Removing what nobody uses", "why", plan.Why)
		a.reclaim(ctx)
		if facts.Levels, err = a.cfg.Levels(used); err != nil {
			a.cfg.Log.Warn("Reading what is left of the node", "err", err)
			return
		}
		facts.Reclaimed, facts.Met, facts.Since = true, plan.Met, plan.Since
		plan = eviction.Decide(facts)
	}
	a.relief.met, a.relief.since = plan.Met, plan.Since
	a.setPressures(plan.Conditions)
	for _, e := range plan.Evict {
		grace := evictionGrace
		if e.Soft {
			grace = a.cfg.Policy.SoftEvictionGrace
		}
		a.cfg.Log.Warn("Evicting a pod", "namespace", e.Pod.Namespace, "name", e.Pod.Name, "why", plan.Why)
		a.evict(&e, grace)
	}
}

// reclaim removes what is on the disk and in nobody's use: what containers of pods
// that have finished have written, with their logs, and images.
func (a *Agent) reclaim(ctx context.Context) {
	a.spare()
	for deadline := time.Now().Add(reclaimPatience); a.dead(ctx) && time.Now().Before(deadline); {
		rest(ctx, 50*time.Millisecond)
		a.spare() // those that have finished since
	}
	freed, err := a.cfg.Images.Free(ctx, math.MaxInt64)
	if err != nil && ctx.Err() == nil {
		a.cfg.Log.Error("Removing images that nobody uses", "err", err)
	}
	a.cfg.Log.Debug("Removed what nobody uses", "imageBytes", freed)
}

// spare has the pods that have finished keep nothing. Those that finish later do.
func (a *Agent) spare() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.post(func() { w.seen.Spare = w.seen.Spare || w.want != nil && condition.Ended(w.want.status.Phase) })
	}
}

// dead: a container of a pod that has finished is still there.
func (a *Agent) dead(ctx context.Context) bool {
	containers, err := a.cfg.Runtime.List(ctx)
	active := a.activePods()
	return err == nil && slices.ContainsFunc(containers, func(c Container) bool {
		return c.Phase == ContainerExited && active[types.UID(c.PodUID)] == nil
	})
}

// evict gives a pod up.
func (a *Agent) evict(e *eviction.Eviction, grace time.Duration) {
	a.relief.mu.Lock()
	a.relief.evicted, a.relief.at = e.Pod, time.Now()
	a.relief.mu.Unlock()
	a.mu.Lock()
	w := a.workers[e.Pod.UID]
	a.mu.Unlock()
	if w != nil {
		w.post(func() {
			w.giveUp(&Verdict{Reason: ReasonEvicted, Message: e.Message, Evicted: true, Grace: grace})
		})
	}
}

// evicting: the pod that was evicted last still has something.
func (a *Agent) evicting(used Usage) bool {
	a.relief.mu.Lock()
	pod, at := a.relief.evicted, a.relief.at
	a.relief.mu.Unlock()
	if pod == nil || time.Since(at) > evictionPatience {
		return false
	}
	if _, err := os.Lstat(a.volumesDir(pod)); err == nil {
		return true
	}
	return slices.ContainsFunc(used.Containers, func(c ContainerUsage) bool { return c.PodUID == string(pod.UID) })
}

// measure finds out what each pod uses; of the disk only for those that are to be
// measured, for every file has to be looked at.
func (a *Agent) measure(ctx context.Context, used Usage, measured func(*corev1.Pod) bool) []eviction.Pod {
	running := map[string][]ContainerUsage{}
	for _, c := range used.Containers {
		running[c.PodUID] = append(running[c.PodUID], c)
	}
	var pods []eviction.Pod
	for uid, pod := range a.activePods() {
		p := eviction.Pod{Spec: pod}
		files := measured(pod)
		for _, c := range running[string(uid)] {
			container := eviction.Container{Name: c.Name, Memory: c.Used.Memory}
			if files {
				container.Written = a.take(&p, func() (eviction.Disk, error) { return a.cfg.Meter.Written(ctx, c.ID) })
			}
			p.Containers = append(p.Containers, container)
			p.Processes += c.Used.Processes
		}
		if files {
			p.Logs = a.take(&p, func() (eviction.Disk, error) { return DiskUsage(ctx, a.podLogDir(pod)) })
			p.EmptyDirs = map[string]int64{}
			for _, v := range pod.Spec.Volumes {
				if v.EmptyDir == nil {
					continue
				}
				of := &p
				if v.EmptyDir.Medium == corev1.StorageMediumMemory {
					of = &eviction.Pod{} // its inodes are none of the disk's
				}
				p.EmptyDirs[v.Name] = a.take(of, func() (eviction.Disk, error) { return DiskUsage(ctx, filepath.Join(a.volumesDir(pod), v.Name)) })
			}
		}
		pods = append(pods, p)
	}
	return pods
}

// take adds the inodes that are measured to a pod, and returns the bytes. What
// cannot be measured counts as nothing: no pod is evicted for it.
func (a *Agent) take(of *eviction.Pod, measure func() (eviction.Disk, error)) int64 {
	disk, err := measure()
	if err != nil {
		a.cfg.Log.Debug("Measuring disk use", "err", err)
		return 0
	}
	of.Inodes += disk.Inodes
	return disk.Bytes
}

// DiskUsage returns what a directory takes of its disk, with all below it that is on
// the same: a file of several names once. What vanishes meanwhile, and what was never
// there, takes nothing.
func DiskUsage(ctx context.Context, dir string) (eviction.Disk, error) {
	total := eviction.Disk{}
	var disk *uint64
	linked := map[uint64]bool{} // the inodes that were counted by one of several names
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok:
			return nil
		case disk == nil:
			disk = &stat.Dev
		case stat.Dev != *disk && entry.IsDir():
			return fs.SkipDir
		case stat.Dev != *disk || linked[stat.Ino]:
			return nil
		}
		if stat.Nlink > 1 && !entry.IsDir() {
			linked[stat.Ino] = true
		}
		total.Bytes += stat.Blocks * 512
		total.Inodes++
		return nil
	})
	return total, err
}

// levels reads what is left of this node.
func (a *Agent) levels(used Usage) (map[eviction.Signal]eviction.Level, error) {
	levels := map[eviction.Signal]eviction.Level{
		eviction.MemoryAvailable: {Available: a.node.memory - used.Node.Memory, Capacity: a.node.memory},
	}
	for _, of := range []struct {
		dir           string
		space, inodes eviction.Signal
	}{
		{a.cfg.DataDir, eviction.NodeFSAvailable, eviction.NodeFSInodesFree},
		{filepath.Join(a.cfg.DataDir, "images"), eviction.ImageFSAvailable, eviction.ImageFSInodesFree},
	} {
		switch space, inodes, err := fileSystem(of.dir); {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			return nil, err
		default:
			levels[of.space] = space
			if inodes.Capacity > 0 {
				levels[of.inodes] = inodes
			}
		}
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("number of processes: %w", err)
	}
	text, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return nil, err
	}
	if most, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
		levels[eviction.PIDAvailable] = eviction.Level{Available: most - int64(info.Procs), Capacity: most}
	}
	return levels, nil
}

// fileSystem reads what is left of the file system of a directory. One that does
// not count its inodes has a capacity of none.
func fileSystem(dir string) (space, inodes eviction.Level, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return space, inodes, fmt.Errorf("space left for %s: %w", dir, err)
	}
	return eviction.Level{Available: int64(stat.Bavail) * stat.Bsize, Capacity: int64(stat.Blocks) * stat.Bsize},
		eviction.Level{Available: int64(stat.Ffree), Capacity: int64(stat.Files)}, nil
}

// pressureTexts are what a node's conditions say, without and with pressure, in
// Kubernetes' words.
var pressureTexts = []struct {
	condition               corev1.NodeConditionType
	well, wellText          string
	under, underText, event string
}{
	{corev1.NodeMemoryPressure, "KubeletHasSufficientMemory", "kubelet has sufficient memory available",
		"KubeletHasInsufficientMemory", "kubelet has insufficient memory available", "NodeHasInsufficientMemory"},
	{corev1.NodeDiskPressure, "KubeletHasNoDiskPressure", "kubelet has no disk pressure",
		"KubeletHasDiskPressure", "kubelet has disk pressure", "NodeHasDiskPressure"},
	{corev1.NodePIDPressure, "KubeletHasSufficientPID", "kubelet has sufficient PID available",
		"KubeletHasInsufficientPID", "kubelet has insufficient PID available", "NodeHasInsufficientPID"},
}

// pressureConditions are the node's conditions under the pressures that there are.
func pressureConditions(pressures []corev1.NodeConditionType) []corev1.NodeCondition {
	var list []corev1.NodeCondition
	for _, text := range pressureTexts {
		c := corev1.NodeCondition{Type: text.condition, Status: corev1.ConditionFalse, Reason: text.well, Message: text.wellText}
		if slices.Contains(pressures, text.condition) {
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, text.under, text.underText
		}
		list = append(list, c)
	}
	return list
}

// setPressures takes in what the node is under, and has it told at once.
func (a *Agent) setPressures(pressures []corev1.NodeConditionType) {
	a.mu.Lock()
	before := a.pressures
	a.pressures = pressures
	a.mu.Unlock()
	if slices.Equal(before, pressures) {
		return
	}
	for _, text := range pressureTexts {
		if slices.Contains(pressures, text.condition) && !slices.Contains(before, text.condition) {
			node := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: a.cfg.NodeName, UID: types.UID(a.cfg.NodeName)}}
			a.cfg.Recorder.Event(node, corev1.EventTypeNormal, text.event, fmt.Sprintf("Node %s status is now: %s", a.cfg.NodeName, text.event))
		}
	}
	a.lookAtNode()
}

func (a *Agent) presentPressures() []corev1.NodeConditionType {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pressures
}
