package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
)

// Level is how much of something there is.
type Level struct{ Available, Capacity int64 }

// Pod is a pod that runs on the node, with what it uses.
type Pod struct {
	Spec       *corev1.Pod
	Containers []Container
	EmptyDirs  map[string]int64 // bytes in each, by volume name, of those on disk and in memory
	Logs       int64            // bytes, of all containers
	Inodes     int64            // on disk: of its containers, logs and volumes
	Claims     Disk             // what there is of the node's own volumes that it claims; only who looks for growth asks
	Processes  int64
}

// Disk is what files take of a file system.
type Disk struct{ Bytes, Inodes int64 }

// Container is what a container uses.
type Container struct {
	Name    string
	Memory  int64 // bytes
	Written int64 // bytes, to its own file system
}

// Facts is everything that a decision is made from.
type Facts struct {
	Now        time.Time
	Thresholds []Threshold
	Levels     map[Signal]Level
	Pods       []Pod

	// Met is when each condition's threshold was last seen met, as the last Plan
	// says; a condition holds for Lasts after that.
	Met   map[corev1.NodeConditionType]time.Time
	Lasts time.Duration

	// Since is when each threshold with a grace was first seen met without a
	// pause, as the last Plan says.
	Since map[Threshold]time.Time

	// Busy: what the last eviction gives back is not back yet.
	Busy bool

	// Reclaimed: what nobody uses is gone from the disk already.
	Reclaimed bool
}

// Plan is what to do.
type Plan struct {
	Conditions []corev1.NodeConditionType // that the node is under
	Met        map[corev1.NodeConditionType]time.Time
	Since      map[Threshold]time.Time
	Reclaim    bool // what nobody uses is to go from the disk; then decide again
	Evict      []Eviction
	Why        string // for people; "" when all is well
}

// Eviction is a pod to give up, and what to say of it.
type Eviction struct {
	Pod     *corev1.Pod
	Message string // as Kubernetes writes it
	Soft    bool   // the threshold has a grace, so the pod has one too
}

// Decide decides. Pods that have taken more disk space than they may go at once; of
// the others at most one, for the first threshold that is met for as long as its
// grace, and for the disk only when what nobody uses has gone.
func Decide(f Facts) Plan {
	p := Plan{Met: map[corev1.NodeConditionType]time.Time{}, Since: map[Threshold]time.Time{}}
	for condition, at := range f.Met {
		p.Met[condition] = at
	}
	var met []Threshold
	for _, t := range f.Thresholds {
		level, known := f.Levels[t.Signal]
		if !known || level.Available >= t.of(level.Capacity) {
			continue
		}
		p.Met[t.Signal.condition()] = f.Now
		if t.Grace > 0 {
			if p.Since[t] = f.Since[t]; p.Since[t].IsZero() {
				p.Since[t] = f.Now
			}
			if f.Now.Sub(p.Since[t]) < t.Grace {
				continue
			}
		}
		met = append(met, t)
	}
	for _, condition := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		if at, ok := p.Met[condition]; ok && (at.Equal(f.Now) || f.Now.Sub(at) < f.Lasts) {
			p.Conditions = append(p.Conditions, condition)
		} else {
			delete(p.Met, condition)
		}
	}
	if p.Evict = tooLarge(f.Pods); len(p.Evict) > 0 {
		p.Why = "pods have taken more disk space than they may"
		return p
	}
	// Memory first: without it nothing else can be done. Of the same the harder.
	slices.SortStableFunc(met, func(a, b Threshold) int {
		return cmp.Or(cmp.Compare(rankOf(a.Signal), rankOf(b.Signal)), cmp.Compare(a.Grace, b.Grace))
	})
	switch {
	case len(met) == 0:
	case f.Busy:
		p.Why = fmt.Sprintf("%s is below its threshold; waiting for the last eviction to end", met[0].Signal)
	case met[0].Signal.condition() == corev1.NodeDiskPressure && !f.Reclaimed:
		p.Reclaim = true
		p.Why = fmt.Sprintf("%s is below its threshold: what nobody uses goes first", met[0].Signal)
	default:
		p.Why = fmt.Sprintf("%s is below its threshold, and no pod can be evicted", met[0].Signal)
		if victim := choose(f.Pods, met[0].Signal); victim != nil {
			p.Evict = []Eviction{{victim.Spec, message(victim, met[0], f.Levels[met[0].Signal]), met[0].Grace > 0}}
			p.Why = fmt.Sprintf("%s is below its threshold", met[0].Signal)
		}
	}
	return p
}

func rankOf(s Signal) int {
	return slices.Index([]Signal{MemoryAvailable, NodeFSAvailable, ImageFSAvailable, NodeFSInodesFree, ImageFSInodesFree, PIDAvailable}, s)
}

// systemCritical is the priority from which a pod is critical
// (https://kubernetes.io/docs/tasks/administer-cluster/guaranteed-scheduling-critical-addon-pods/).
const systemCritical = 2_000_000_000

// Critical says whether a pod is so important that the node never evicts it, and lets
// it in also when it is short of something.
func Critical(pod *corev1.Pod) bool { return schedulinghelpers.PodPriority(pod) >= systemCritical }

// choose returns the pod to evict: those first that use more than they request,
// then by priority, the lowest first, then by how much more they use; nil if there
// is none that may be.
func choose(pods []Pod, signal Signal) *Pod {
	candidates := slices.DeleteFunc(slices.Clone(pods), func(p Pod) bool { return Critical(p.Spec) })
	if len(candidates) == 0 {
		return nil
	}
	resourceName := signal.reclaims()
	over := func(p Pod) int64 { return p.uses(resourceName) - p.requests(resourceName) }
	victim := slices.MinFunc(candidates, func(a, b Pod) int {
		exceeds := 0
		if resourceName != pids {
			exceeds = -cmp.Compare(sign(over(a)), sign(over(b)))
		}
		return cmp.Or(exceeds, cmp.Compare(schedulinghelpers.PodPriority(a.Spec), schedulinghelpers.PodPriority(b.Spec)), -cmp.Compare(over(a), over(b)),
			cmp.Compare(a.Spec.Namespace+"/"+a.Spec.Name, b.Spec.Namespace+"/"+b.Spec.Name))
	})
	return &victim
}

func sign(n int64) int {
	if n > 0 {
		return 1
	}
	return 0
}

// uses is what a pod uses of a resource.
func (p Pod) uses(name corev1.ResourceName) int64 {
	total := int64(0)
	switch name {
	case corev1.ResourceMemory:
		for _, c := range p.Containers {
			total += c.Memory
		}
	case corev1.ResourceEphemeralStorage:
		total = p.Logs
		for _, c := range p.Containers {
			total += c.Written
		}
		for volume, size := range p.EmptyDirs {
			if !inMemory(p.Spec, volume) {
				total += size
			}
		}
	case inodes:
		total = p.Inodes
	default:
		total = p.Processes
	}
	return total
}

func (p Pod) requests(name corev1.ResourceName) int64 {
	requests := resource.PodRequests(p.Spec, resource.PodResourcesOptions{})
	quantity := requests[name]
	return quantity.Value()
}

func inMemory(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == name && v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
	})
}

// message tells why a pod is evicted.
func message(p *Pod, t Threshold, level Level) string {
	return describe(p, t.Signal.reclaims(), t.of(level.Capacity), level.Available)
}

// describe tells that there is less of a resource than there should be, with the
// containers of a pod that use more than they request.
func describe(p *Pod, name corev1.ResourceName, threshold, available int64) string {
	format := apiresource.BinarySI
	if name == pids || name == inodes {
		format = apiresource.DecimalSI
	}
	quantity := func(n int64) string { return apiresource.NewQuantity(n, format).String() }
	text := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ", name, quantity(threshold), readable(available, format))
	for _, c := range p.Containers {
		used := c.Memory
		switch name {
		case corev1.ResourceEphemeralStorage:
			used = c.Written
		case pids, inodes:
			continue
		}
		request := requestOf(p.Spec, c.Name, name)
		if used > request.Value() {
			text += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, readable(used, format), request.String(), name)
		}
	}
	return text
}

// readable is a quantity in Ki, as kubelets tell of what they have measured.
func readable(n int64, format apiresource.Format) string {
	if format == apiresource.BinarySI && n >= 1024 {
		n = n / 1024 * 1024
	}
	return apiresource.NewQuantity(n, format).String()
}

func requestOf(pod *corev1.Pod, container string, name corev1.ResourceName) apiresource.Quantity {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == container {
				return list[i].Resources.Requests[name]
			}
		}
	}
	return apiresource.Quantity{}
}

// tooLarge returns the pods that have taken more disk space than their volumes,
// their containers or they as a whole may.
func tooLarge(pods []Pod) []Eviction {
	var list []Eviction
	for i := range pods {
		if why := pods[i].tooLarge(); why != "" {
			list = append(list, Eviction{Pod: pods[i].Spec, Message: why})
		}
	}
	return list
}

func (p *Pod) tooLarge() string {
	for _, v := range p.Spec.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() > 0 && p.EmptyDirs[v.Name] > v.EmptyDir.SizeLimit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	limits := resource.PodLimits(p.Spec, resource.PodResourcesOptions{})
	if limit, ok := limits[corev1.ResourceEphemeralStorage]; ok && limit.Sign() > 0 && p.uses(corev1.ResourceEphemeralStorage) > limit.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	for _, c := range p.Containers {
		for i := range p.Spec.Spec.Containers {
			spec := &p.Spec.Spec.Containers[i]
			limit, ok := spec.Resources.Limits[corev1.ResourceEphemeralStorage]
			if ok && spec.Name == c.Name && limit.Sign() > 0 && c.Written > limit.Value() {
				return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
			}
		}
	}
	return ""
}

// Measured tells whether a pod's disk use has to be known although the node has
// enough space: something of it is limited.
func Measured(pod *corev1.Pod) bool {
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{})
	_, limited := limits[corev1.ResourceEphemeralStorage]
	return limited || slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil })
}

// ShortOfDisk tells whether a threshold of the disk is met, so that the disk use
// of every pod has to be known.
func ShortOfDisk(f Facts) bool {
	return slices.ContainsFunc(f.Thresholds, func(t Threshold) bool {
		level, known := f.Levels[t.Signal]
		return known && t.Signal.condition() == corev1.NodeDiskPressure && level.Available < t.of(level.Capacity)
	})
}
