package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/kubectl/pkg/util/qos"

	"windlass.dev/windlass/internal/condition"
)

// Allotment is what the node has allotted to a pod's containers, which is what the
// pod's spec asks for unless that was changed and could not be had
// (https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/).
//
// What a container is held to at present is in its record (Container.Granted), and
// what has been allotted is told in the pod's status: both outlive the agent.
type Allotment struct {
	Containers map[string]corev1.ResourceRequirements // of main containers and sidecars, by name
	At         time.Time                              // when it was last changed; zero if it never was
	Generation int64                                  // of the pod that asked for that change
	Refused    *Refusal                               // of what the pod asks for now; nil if it has that
}

// Refusal is why a node does not allot what a pod asks for.
type Refusal struct {
	Reason  string // PodReasonDeferred or PodReasonInfeasible
	Message string
}

// Grant is what a running container is to be held to from now on.
type Grant struct {
	Resources Resources
	Granted   corev1.ResourceRequirements // the same as a pod's spec words it, for the record
}

// wishes are the resources that a pod's main containers and sidecars ask for, by name.
func wishes(pod *corev1.Pod) map[string]corev1.ResourceRequirements {
	all := map[string]corev1.ResourceRequirements{}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all[c.Name] = c.Resources
		}
	}
	for _, c := range pod.Spec.Containers {
		all[c.Name] = c.Resources
	}
	return all
}

// withResources returns a pod whose containers ask for the resources given by their
// names: the same pod where that changes nothing.
func withResources(pod *corev1.Pod, resources map[string]corev1.ResourceRequirements) *corev1.Pod {
	differs := false
	for name, asked := range wishes(pod) {
		if r, ok := resources[name]; ok && !sameResources(r, asked) {
			differs = true
		}
	}
	if !differs {
		return pod
	}
	pod = pod.DeepCopy()
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if r, ok := resources[list[i].Name]; ok {
				list[i].Resources = r
			}
		}
	}
	return pod
}

func sameResources(a, b corev1.ResourceRequirements) bool {
	return equality.Semantic.DeepEqual(a.Requests, b.Requests) && equality.Semantic.DeepEqual(a.Limits, b.Limits)
}

// recallGrants takes from the pod's status what containers are held to whose records,
// which an older version wrote, do not say so.
func recallGrants(pod *corev1.Pod, containers []Container) {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		for i := range containers {
			if c := &containers[i]; c.Granted == nil && status.ContainerID == runtimeScheme+c.ID && status.Resources != nil {
				c.Granted = status.Resources
			}
		}
	}
}

// recallAllotment finds what an agent before this one has allotted: what the pod
// asks for where its status tells so, else what its containers were given.
func recallAllotment(pod *corev1.Pod, containers []Container) Allotment {
	a := Allotment{Containers: wishes(pod)}
	for name, asked := range a.Containers {
		last, _ := lastTwo(containers, name)
		if last == nil || last.Granted == nil {
			continue
		}
		told := slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses), func(s corev1.ContainerStatus) bool {
			return s.Name == name && equality.Semantic.DeepEqual(s.AllocatedResources, asked.Requests)
		})
		if !told {
			a.Containers[name] = *last.Granted
		}
	}
	if c := condition.Find(&pod.Status, corev1.PodResizeInProgress); c != nil {
		a.At, a.Generation = c.LastTransitionTime.Time, c.ObservedGeneration
	}
	return a
}

// allotted is a container as the node has it.
func (l *life) allotted(u *unit) corev1.ResourceRequirements {
	if r, ok := l.seen.Allotment.Containers[u.spec.Name]; ok {
		return r
	}
	return u.spec.Resources
}

// resizing: the container runs, or is being started anew, and is held to something
// else than it was allotted.
func (l *life) resizing(u *unit) bool {
	return (u.running() || u.again) && u.kind != initUnit && u.kind != ephemeralUnit && u.current.Granted != nil && !sameResources(*u.current.Granted, l.allotted(u))
}

// resizesByRestart: what is to change takes effect in a new start only, as the
// container's resizePolicy says.
func resizesByRestart(c *corev1.Container, from, to corev1.ResourceRequirements) bool {
	return slices.ContainsFunc(c.ResizePolicy, func(p corev1.ContainerResizePolicy) bool {
		if p.RestartPolicy != corev1.RestartContainer {
			return false
		}
		changed := func(a, b corev1.ResourceList) bool {
			x, y := a[p.ResourceName], b[p.ResourceName]
			return x.Cmp(y) != 0
		}
		return changed(from.Requests, to.Requests) || changed(from.Limits, to.Limits)
	})
}

// resize brings the containers that run to what they were allotted, but for those
// that are restarted for it (see condemnation).
func (l *life) resize() {
	var names []string
	for _, u := range l.running() {
		if l.resizing(u) && !resizesByRestart(u.spec, *u.current.Granted, l.allotted(u)) {
			names = append(names, u.spec.Name)
		}
	}
	starts := slices.ContainsFunc(l.d.Acts, func(a Act) bool { return a.Kind == ActStart })
	if len(names) > 0 && !starts && !l.starting() {
		l.do(Act{Kind: ActResize, Why: "other resources were allotted to " + strings.Join(names, ", ")})
	}
}

// resizeConditions tells how far a change of the pod's resources has come.
func (l *life) resizeConditions(status *corev1.PodStatus) {
	pending := corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue}
	if refused := l.seen.Allotment.Refused; refused != nil && !l.finished() {
		pending.Reason, pending.Message = refused.Reason, refused.Message
		l.condition(status, pending)
	} else {
		forgetCondition(status, pending.Type)
	}
	progress := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}
	if !slices.ContainsFunc(l.all(), l.resizing) || l.stopping() {
		forgetCondition(status, progress.Type)
		return
	}
	if failure, ok := l.failure(ActResize, ""); ok {
		progress.Reason, progress.Message = corev1.PodReasonError, failure.Message
	}
	l.condition(status, progress)
}

func forgetCondition(status *corev1.PodStatus, kind corev1.PodConditionType) {
	status.Conditions = slices.DeleteFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
}

// Resizing is what Events have told of a pod's resources.
type Resizing struct {
	Started, Completed int64 // the Generation of the Allotment
	Refused            Refusal
}

// tellResize tells of a change of the pod's resources: once that it has begun, that
// it is done, and why it is refused.
func (l *life) tellResize() {
	told, a := &l.d.Memory.Resizing, l.seen.Allotment
	if l.stopping() || l.finished() {
		return
	}
	working := slices.ContainsFunc(l.all(), l.resizing)
	pod := withResources(l.pod, a.Containers)
	if a.Generation != 0 && working && told.Started < a.Generation {
		told.Started = a.Generation
		l.tell("", corev1.EventTypeNormal, "ResizeStarted", "Pod resize started: %s", resizeSummary(pod, a.Generation, ""))
	}
	if a.Generation != 0 && !working && told.Completed < a.Generation {
		told.Started, told.Completed = a.Generation, a.Generation
		l.tell("", corev1.EventTypeNormal, "ResizeCompleted", "Pod resize completed: %s", resizeSummary(pod, a.Generation, ""))
	}
	switch refused := a.Refused; {
	case refused == nil:
		told.Refused = Refusal{}
	case *refused != told.Refused:
		if refused.Reason != told.Refused.Reason {
			l.tell("", corev1.EventTypeWarning, "Resize"+refused.Reason, "Pod resize %s: %s", refused.Reason, resizeSummary(l.pod, l.pod.Generation, refused.Message))
		}
		told.Refused = *refused
	}
}

// resizeSummary is how Kubernetes tells of a pod's resources in Events.
func resizeSummary(pod *corev1.Pod, generation int64, failure string) string {
	type container struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources"`
	}
	summary := struct {
		InitContainers []container `json:"initContainers,omitempty"`
		Containers     []container `json:"containers,omitempty"`
		Generation     int64       `json:"generation"`
		Error          string      `json:"error,omitempty"`
	}{Generation: generation, Error: failure}
	for _, c := range pod.Spec.InitContainers {
		summary.InitContainers = append(summary.InitContainers, container{c.Name, c.Resources})
	}
	for _, c := range pod.Spec.Containers {
		summary.Containers = append(summary.Containers, container{c.Name, c.Resources})
	}
	text, err := json.Marshal(summary)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// resizeWork has the runtime hold the pod's containers to what they were allotted.
func (w *worker) resizeWork() work {
	a, pod := w.agent, withResources(w.pod, w.seen.Allotment.Containers)
	grants := map[string]Grant{}
	for _, name := range runningNames(w.seen.Containers) {
		last, _ := lastTwo(w.seen.Containers, name)
		spec := containerSpecOf(pod, name)
		if _, ok := w.seen.Allotment.Containers[name]; !ok || last.Granted == nil || sameResources(*last.Granted, spec.Resources) || resizesByRestart(spec, *last.Granted, spec.Resources) {
			continue
		}
		grants[last.ID] = Grant{Resources: resourcesOf(pod, spec, a.node.memory), Granted: spec.Resources}
	}
	hold := w.podGroup(grants)
	return func(ctx context.Context) (func(), error) {
		done, err := a.cfg.Runtime.Resize(ctx, string(pod.UID), hold, grants)
		w.post(func() { // of some, even if others could not be
			for i := range w.seen.Containers {
				if c := &w.seen.Containers[i]; slices.Contains(done, c.ID) {
					granted := grants[c.ID].Granted
					c.Granted = &granted
				}
			}
		})
		return nil, err
	}
}

func runningNames(containers []Container) []string {
	var names []string
	for _, c := range containers {
		if c.Phase == ContainerRunning {
			names = append(names, c.Name)
		}
	}
	return names
}

// podGroup is what the pod as a whole is held to: what it was allotted, and no less
// than those of its running containers have that are not given theirs now.
func (w *worker) podGroup(now map[string]Grant) PodGroup {
	maxPids := w.agent.cfg.Policy.PodMaxPids
	pod := withResources(w.pod, w.seen.Allotment.Containers)
	group := podGroupOf(pod, maxPids)
	held := map[string]corev1.ResourceRequirements{}
	for _, name := range runningNames(w.seen.Containers) {
		last, _ := lastTwo(w.seen.Containers, name)
		if _, ok := now[last.ID]; !ok && last.Granted != nil {
			held[name] = *last.Granted
		}
	}
	if len(held) > 0 {
		group.Resources = group.Resources.AtLeast(podGroupOf(withResources(pod, held), maxPids).Resources)
	}
	return group
}

// AtLeast returns the greater of each of two limits, and of their CPU shares.
func (r Resources) AtLeast(other Resources) Resources {
	greater := func(a, b int64) int64 {
		if a == 0 || b == 0 { // one has no limit
			return 0
		}
		return max(a, b)
	}
	r.CPUShares = max(r.CPUShares, other.CPUShares)
	r.CPUQuota = greater(r.CPUQuota, other.CPUQuota) // both of the same period
	r.CPUPeriod = max(r.CPUPeriod, other.CPUPeriod)
	r.MemoryLimit = greater(r.MemoryLimit, other.MemoryLimit)
	return r
}

// allot asks the node for what the pod's spec asks for, if that is not what it has.
func (w *worker) allot() {
	asked := wishes(w.pod)
	if w.pod.DeletionTimestamp != nil || w.seen.Gone || condition.Ended(w.pod.Status.Phase) || w.seen.Verdict != nil {
		return
	}
	same := true
	for name, r := range asked {
		same = same && sameResources(r, w.seen.Allotment.Containers[name])
	}
	refused, decided := w.agent.allot(w.pod, same)
	if !decided {
		return
	}
	if w.seen.Allotment.Refused = refused; refused == nil && !same {
		w.seen.Allotment = Allotment{Containers: asked, At: time.Now(), Generation: w.pod.Generation}
	}
}

// deferral is a pod that asks for more than the node has at present.
type deferral struct {
	pod   *corev1.Pod // as it asks
	since time.Time
}

// allot decides whether a pod that is in may have what it asks for now. It is not
// decided for a pod that is not in. same: the pod has that already.
func (a *Agent) allot(pod *corev1.Pod, same bool) (refused *Refusal, decided bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.active[pod.UID]
	if before == nil {
		return nil, false
	}
	if same {
		delete(a.deferred, pod.UID)
		return nil, true
	}
	if refused = a.judge(pod); refused == nil {
		a.active[pod.UID] = pod
		delete(a.deferred, pod.UID)
		a.retryResizes()
		return nil, true
	}
	if waits := a.deferred[pod.UID]; refused.Reason == corev1.PodReasonInfeasible {
		delete(a.deferred, pod.UID)
	} else if waits == nil || !equality.Semantic.DeepEqual(wishes(waits.pod), wishes(pod)) {
		if a.deferred == nil {
			a.deferred = map[types.UID]*deferral{}
		}
		a.deferred[pod.UID] = &deferral{pod, time.Now()}
	}
	return refused, true
}

// judge decides whether the node has what a pod asks for that is in already. a.mu is held.
func (a *Agent) judge(pod *corev1.Pod) *Refusal {
	d := door{allocatable: a.allocatable()}
	wanted := resource.PodRequests(pod, resource.PodResourcesOptions{})
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceCPU} {
		units := amount(name)
		if want, most := units(wanted), units(d.allocatable); want > most {
			return &Refusal{corev1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, want, most)}
		}
	}
	for uid, other := range a.active {
		if uid != pod.UID {
			d.pods = append(d.pods, other)
		}
	}
	if verdict := d.room(pod); verdict != nil {
		return &Refusal{corev1.PodReasonDeferred, strings.TrimPrefix(verdict.Message, rejected)}
	}
	return nil
}

// retryResizes wakes the pods that wait for resources, now that some are free, if they
// can have them: by priority, then class, then who waits longest. a.mu is held.
func (a *Agent) retryResizes() {
	waiting := slices.SortedFunc(maps.Values(a.deferred), func(x, y *deferral) int {
		return cmp.Or(cmp.Compare(schedulinghelpers.PodPriority(y.pod), schedulinghelpers.PodPriority(x.pod)), cmp.Compare(classRank(x.pod), classRank(y.pod)), x.since.Compare(y.since))
	})
	for _, d := range waiting {
		w := a.workers[d.pod.UID]
		if w == nil || a.judge(d.pod) != nil {
			continue
		}
		a.active[d.pod.UID] = d.pod // at once: those after it find less
		delete(a.deferred, d.pod.UID)
		w.post(w.allot)
	}
}

func classRank(pod *corev1.Pod) int {
	return slices.Index([]corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort}, qos.GetPodQOS(pod))
}
