package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/util/qos"

	"windlass.dev/windlass/internal/agent/eviction"
	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/hostport"
)

// Verdict is why the agent itself has given a pod up, which fails it: it was not
// let in, or it was evicted.
type Verdict struct {
	Reason  string // of the pod's status, as Kubernetes writes it: "OutOfcpu", "Evicted"
	Message string
	Evicted bool          // it ran: what runs is stopped within Grace
	Grace   time.Duration // 0 is by SIGKILL at once
}

// The reasons of verdicts beside OutOf with the name of a resource.
const (
	ReasonEvicted         = "Evicted"
	ReasonSysctlForbidden = "SysctlForbidden"
	ReasonPorts           = "NodePorts"
)

// door is what a node lets pods in by.
type door struct {
	pods        []*corev1.Pod // that are in
	allocatable corev1.ResourceList
	sysctls     []string                   // that are unsafe and allowed
	pressures   []corev1.NodeConditionType // that are true
}

// admit decides whether a pod that was bound to this node may run here; nil lets
// it in. Whoever bound it may have known less than this node does.
func (d door) admit(pod *corev1.Pod) *Verdict {
	if verdict := d.admitUnderPressure(pod); verdict != nil {
		return verdict
	}
	if err := checkSysctls(pod, d.sysctls); err != nil {
		return rejection(ReasonSysctlForbidden, "forbidden sysctl: %v", err)
	}
	if most := d.allocatable.Pods().Value(); int64(len(d.pods)) >= most {
		return insufficient(corev1.ResourcePods, 1, int64(len(d.pods)), most)
	}
	if verdict := d.room(pod); verdict != nil {
		return verdict
	}
	if d.portsTaken(pod) {
		return rejection(ReasonPorts, "Predicate %s failed: node(s) didn't have free ports for the requested pod ports", ReasonPorts)
	}
	return nil
}

// portsTaken: a pod that is in has a port of the node that this one wants.
func (d door) portsTaken(pod *corev1.Pod) bool {
	wanted := hostport.Of(pod)
	return len(wanted) > 0 && slices.ContainsFunc(d.pods, func(other *corev1.Pod) bool {
		for _, has := range hostport.Of(other) {
			if slices.ContainsFunc(wanted, func(want corev1.ContainerPort) bool { return hostport.Conflict(want, has) }) {
				return true
			}
		}
		return false
	})
}

// room: what the pods that are in leave of the node is enough for another; nil if so.
func (d door) room(pod *corev1.Pod) *Verdict {
	used := corev1.ResourceList{}
	for _, other := range d.pods {
		add(used, resource.PodRequests(other, resource.PodResourcesOptions{}))
	}
	wanted := resource.PodRequests(pod, resource.PodResourcesOptions{})
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if !bounded(name) {
			continue
		}
		units := amount(name)
		if want, have, most := units(wanted), units(used), units(d.allocatable); want > 0 && want > most-have {
			return insufficient(name, want, have, most)
		}
	}
	return nil
}

// admitUnderPressure keeps out what would have to be evicted next. Under
// pressure on memory alone, pods that ask for some are let in.
func (d door) admitUnderPressure(pod *corev1.Pod) *Verdict {
	if len(d.pressures) == 0 || eviction.Critical(pod) {
		return nil
	}
	onlyMemory := len(d.pressures) == 1 && d.pressures[0] == corev1.NodeMemoryPressure
	if onlyMemory && (qos.GetPodQOS(pod) != corev1.PodQOSBestEffort || tolerates(pod, corev1.TaintNodeMemoryPressure)) {
		return nil
	}
	return rejection(ReasonEvicted, "The node had condition: %v. ", d.pressures)
}

func tolerates(pod *corev1.Pod, taint string) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		effect := t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule
		return effect && (t.Key == taint || t.Key == "" && t.Operator == corev1.TolerationOpExists)
	})
}

// rejected begins the message of a pod that was not let in.
const rejected = "Pod was rejected: "

func rejection(reason, format string, args ...any) *Verdict {
	return &Verdict{Reason: reason, Message: rejected + fmt.Sprintf(format, args...)}
}

func insufficient(name corev1.ResourceName, want, used, most int64) *Verdict {
	return rejection("OutOf"+string(name), "Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, want, used, most)
}

// bounded: a node has so much of the resource and no more.
func bounded(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// amount reads a resource in the unit that Kubernetes tells of it: CPU in
// thousandths, the rest in ones.
func amount(name corev1.ResourceName) func(corev1.ResourceList) int64 {
	return func(list corev1.ResourceList) int64 {
		quantity := list[name]
		if name == corev1.ResourceCPU {
			return quantity.MilliValue()
		}
		return quantity.Value()
	}
}

func add(sum, more corev1.ResourceList) {
	for name, quantity := range more {
		total := sum[name]
		total.Add(quantity)
		sum[name] = total
	}
}

// letIn decides about a pod that is new to the agent and remembers it as one of
// those that are in. One that it has let in before stays. a.mu is held.
func (a *Agent) letIn(pod *corev1.Pod) *Verdict {
	if pod.Name == "" || condition.Ended(pod.Status.Phase) {
		return nil
	}
	if pod.Status.StartTime == nil && pod.DeletionTimestamp == nil {
		d := door{pods: slices.Collect(maps.Values(a.active)), allocatable: a.allocatable(), sysctls: a.cfg.Policy.AllowedUnsafeSysctls, pressures: a.pressures}
		if verdict := d.admit(pod); verdict != nil {
			return verdict
		}
	}
	a.active[pod.UID] = pod
	return nil
}

// letOut forgets a pod that takes nothing of the node any more.
func (a *Agent) letOut(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetActive(uid)
}

// forgetActive gives what a pod had to those that wait for it. a.mu is held.
func (a *Agent) forgetActive(uid types.UID) {
	if a.active[uid] == nil {
		return
	}
	delete(a.active, uid)
	delete(a.deferred, uid)
	a.retryResizes()
}
