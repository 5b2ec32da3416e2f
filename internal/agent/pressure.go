package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/internal/agent/eviction"
)

const (
	evictionGrace    = time.Second      // for a pod that the node can no longer afford, as kubelets give it
	evictionPatience = 30 * time.Second // for what it had to come back, before the next
)

// relief is what is remembered of evictions from one look to the next.
type relief struct {
	met     map[corev1.NodeConditionType]time.Time
	evicted types.UID
	at      time.Time
}

// relieve looks at what is left of the node and gives pods up where it is too
// little. Only the goroutine of keepMeter calls it.
func (a *Agent) relieve(ctx context.Context, used Usage) {
	levels, err := a.cfg.Levels(used)
	if err != nil {
		a.cfg.Log.Warn("Reading what is left of the node", "err", err)
		return
	}
	facts := eviction.Facts{
		Now: used.At, Thresholds: a.cfg.Policy.Eviction, Levels: levels,
		Met: a.relief.met, Lasts: a.cfg.Policy.PressureLasts, Busy: a.relief.busy(used),
	}
	facts.Pods = a.measure(ctx, used, eviction.ShortOfDisk(facts))
	plan := eviction.Decide(facts)
	a.relief.met = plan.Met
	a.setPressures(plan.Conditions)
	for _, e := range plan.Evict {
		a.cfg.Log.Warn("Evicting a pod", "namespace", e.Pod.Namespace, "name", e.Pod.Name, "why", plan.Why)
		a.relief.evicted, a.relief.at = e.Pod.UID, used.At
		a.mu.Lock()
		w := a.workers[e.Pod.UID]
		a.mu.Unlock()
		if w != nil {
			w.post(func() {
				w.giveUp(&Verdict{Reason: ReasonEvicted, Message: e.Message, Evicted: true, Grace: evictionGrace})
			})
		}
	}
}

// busy: the pod that was evicted last still has something.
func (r *relief) busy(used Usage) bool {
	return used.At.Sub(r.at) < evictionPatience &&
		slices.ContainsFunc(used.Containers, func(c ContainerUsage) bool { return c.PodUID == string(r.evicted) })
}

// measure finds out what each pod uses; of the disk only where that matters, for
// every file has to be looked at.
func (a *Agent) measure(ctx context.Context, used Usage, disk bool) []eviction.Pod {
	running := map[string][]ContainerUsage{}
	for _, c := range used.Containers {
		running[c.PodUID] = append(running[c.PodUID], c)
	}
	var pods []eviction.Pod
	for uid, pod := range a.activePods() {
		p := eviction.Pod{Spec: pod}
		files := disk || eviction.Measured(pod)
		for _, c := range running[string(uid)] {
			container := eviction.Container{Name: c.Name, Memory: c.Used.Memory}
			if files {
				container.Written = a.bytesOf(func() (int64, error) { return a.cfg.Meter.Written(ctx, c.ID) })
			}
			p.Containers = append(p.Containers, container)
			p.Processes += c.Used.Processes
		}
		if files {
			p.Logs = a.bytesOf(func() (int64, error) { return DiskUsage(ctx, a.podLogDir(pod)) })
			p.EmptyDirs = map[string]int64{}
			for _, v := range pod.Spec.Volumes {
				if v.EmptyDir != nil {
					p.EmptyDirs[v.Name] = a.bytesOf(func() (int64, error) { return DiskUsage(ctx, filepath.Join(a.volumesDir(pod), v.Name)) })
				}
			}
		}
		pods = append(pods, p)
	}
	return pods
}

// bytesOf counts what cannot be measured as nothing: no pod is evicted for it.
func (a *Agent) bytesOf(measure func() (int64, error)) int64 {
	n, err := measure()
	if err != nil {
		a.cfg.Log.Debug("Measuring disk use", "err", err)
		return 0
	}
	return n
}

// DiskUsage returns the bytes that a directory takes on its disk, with all below
// it. What vanishes meanwhile, and what was never there, takes none.
func DiskUsage(ctx context.Context, dir string) (int64, error) {
	total := int64(0)
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
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			total += stat.Blocks * 512
		}
		return nil
	})
	return total, err
}

// levels reads what is left of this node.
func (a *Agent) levels(used Usage) (map[eviction.Signal]eviction.Level, error) {
	levels := map[eviction.Signal]eviction.Level{
		eviction.MemoryAvailable: {Available: a.node.memory - used.Node.Memory, Capacity: a.node.memory},
	}
	for signal, dir := range map[eviction.Signal]string{eviction.NodeFSAvailable: a.cfg.DataDir, eviction.ImageFSAvailable: filepath.Join(a.cfg.DataDir, "images")} {
		var stat unix.Statfs_t
		if err := unix.Statfs(dir, &stat); errors.Is(err, unix.ENOENT) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("space left for %s: %w", dir, err)
		}
		levels[signal] = eviction.Level{Available: int64(stat.Bavail) * stat.Bsize, Capacity: int64(stat.Blocks) * stat.Bsize}
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
	select {
	case a.nodeNews <- struct{}{}:
	default:
	}
}

func (a *Agent) presentPressures() []corev1.NodeConditionType {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pressures
}
