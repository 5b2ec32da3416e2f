package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"windlass.dev/windlass/internal/agent/eviction"
)

// Meter tells what is used of a node.
type Meter interface {
	// Usage reads what the node and each of its running containers has used so
	// far. It takes no longer than reading some files of the kernel's for each.
	Usage(ctx context.Context) (Usage, error)

	// Written returns what a running container has written to its own file system,
	// volumes not counted. It looks at every file.
	Written(ctx context.Context, id string) (eviction.Disk, error)
}

// Usage is one reading of a Meter.
type Usage struct {
	At         time.Time
	Node       Used // since the node started
	Containers []ContainerUsage
}

// ContainerUsage is what a container has used since its start.
type ContainerUsage struct {
	ID, PodUID, Name string
	StartedAt        time.Time
	Used             Used
}

// Used is what something has used.
type Used struct {
	CPU       time.Duration // of one CPU
	Processes int64         // and threads; of containers only
	Memory    int64         // bytes in use that the kernel could not take back at once: the working set
}

// How a CPU rate is made: between a reading on demand and the last but one of
// those made every now and then, or the start of a younger container.
const (
	meterEvery  = 10 * time.Second
	leastWindow = time.Millisecond
)

// readings are the last two of those made every now and then.
type readings struct {
	mu   sync.Mutex
	kept []Usage // oldest first
}

func (r *readings) add(u Usage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(slices.Clone(r.kept[max(0, len(r.kept)-1):]), u)
}

// base is the reading that rates begin at; it is zero before the first.
func (r *readings) base() Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) == 0 {
		return Usage{}
	}
	return r.kept[0]
}

// keepMeter reads the meter every now and then, and evicts pods where too little
// is left, until ctx ends.
func (a *Agent) keepMeter(ctx context.Context) {
	for ctx.Err() == nil {
		if u, err := a.cfg.Meter.Usage(ctx); err == nil {
			a.readings.add(u)
			a.relieve(ctx, u)
		} else if ctx.Err() == nil {
			a.cfg.Log.Warn("Reading what the node uses", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-a.short:
		case <-time.After(meterEvery):
		}
	}
}

// nodeMetrics is the rate at which the node's resources are used between two readings.
func nodeMetrics(name string, base, now Usage) metricsv1beta1.NodeMetrics {
	m := metricsv1beta1.NodeMetrics{ObjectMeta: metav1.ObjectMeta{Name: name}, Timestamp: metav1.NewTime(now.At)}
	var window time.Duration
	if !base.At.IsZero() {
		window = now.At.Sub(base.At)
	}
	m.Usage, m.Window = rate(base.Node, now.Node, window)
	return m
}

// podMetrics are the rates at which the containers of the pods use resources
// between two readings, by namespace and name. All of a pod have the same window,
// as its youngest container allows.
func podMetrics(pods map[types.UID]*corev1.Pod, base, now Usage) []metricsv1beta1.PodMetrics {
	before := map[string]Used{}
	for _, c := range base.Containers {
		before[c.ID] = c.Used
	}
	list := map[types.UID]*metricsv1beta1.PodMetrics{}
	for _, c := range now.Containers {
		pod := pods[types.UID(c.PodUID)]
		if pod == nil {
			continue
		}
		m := list[pod.UID]
		if m == nil {
			m = &metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}, Timestamp: metav1.NewTime(now.At)}
			list[pod.UID] = m
		}
		old, known := before[c.ID]
		from := base.At
		if !known {
			from = c.StartedAt
		}
		usage, window := rate(old, c.Used, now.At.Sub(from))
		if m.Window.Duration == 0 || window.Duration < m.Window.Duration {
			m.Window = window
		}
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: c.Name, Usage: usage})
	}
	metrics := []metricsv1beta1.PodMetrics{}
	for _, m := range list {
		slices.SortFunc(m.Containers, func(a, b metricsv1beta1.ContainerMetrics) int { return cmp.Compare(a.Name, b.Name) })
		metrics = append(metrics, *m)
	}
	slices.SortFunc(metrics, func(a, b metricsv1beta1.PodMetrics) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return metrics
}

func rate(before, now Used, window time.Duration) (corev1.ResourceList, metav1.Duration) {
	window = max(window, leastWindow)
	nanocores := max(float64(now.CPU-before.CPU)/window.Seconds(), 0)
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(nanocores), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(now.Memory, resource.BinarySI),
	}, metav1.Duration{Duration: window}
}

// serveUsage answers GET /usage/node with a NodeMetrics and GET /usage/pods with
// a PodMetricsList, in JSON.
func (a *Agent) serveUsage(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, r *http.Request, of func(now Usage) any) {
		if a.cfg.Meter == nil {
			http.Error(w, "this node does not tell what it uses", http.StatusNotFound)
			return
		}
		now, err := a.cfg.Meter.Usage(r.Context())
		if err != nil {
			http.Error(w, "read what is used: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(of(now)) // fails when nobody listens any more
	}
	mux.HandleFunc("GET /usage/node", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(now Usage) any { return nodeMetrics(a.cfg.NodeName, a.readings.base(), now) })
	})
	mux.HandleFunc("GET /usage/pods", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(now Usage) any {
			return metricsv1beta1.PodMetricsList{Items: podMetrics(a.activePods(), a.readings.base(), now)}
		})
	})
}

// activePods are those that were let in and have not ended.
func (a *Agent) activePods() map[types.UID]*corev1.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	pods := make(map[types.UID]*corev1.Pod, len(a.active))
	for uid, pod := range a.active {
		pods[uid] = pod
	}
	return pods
}
