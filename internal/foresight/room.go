package foresight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/rollout"
	"windlass.dev/windlass/internal/scheduler/fit"
)

// maxDetails is how many nodes a finding tells of.
const maxDetails = 5

// nodes is the room of the cluster's nodes, by the rules of the scheduler.
type nodes struct {
	cluster *fit.Cluster
	facts   *Facts
}

func roomOf(facts *Facts) nodes {
	n := nodes{fit.NewCluster(), facts}
	for _, node := range facts.Nodes {
		n.cluster.SetNode(node)
	}
	for _, pod := range facts.Pods {
		if pod.Spec.NodeName != "" && !condition.Ended(pod.Status.Phase) {
			n.cluster.SetPod(fit.NewPod(pod))
		}
	}
	for _, claim := range facts.Claims {
		n.cluster.SetClaim(claim)
	}
	for _, volume := range facts.Volumes {
		n.cluster.SetVolume(volume)
	}
	for _, class := range facts.Classes {
		n.cluster.SetClass(class)
	}
	return n
}

// candidate is a pod made from a template, as it will be decided on.
func (n nodes) candidate(pod *corev1.Pod) *fit.Pod {
	return fit.NewPod(withStorage(withRequests(pod), n.facts))
}

// withStorage leaves a pod the claims that are there. Those that are still to be
// made get their volume where the pod is; one that is missing is told elsewhere.
func withStorage(pod *corev1.Pod, facts *Facts) *corev1.Pod {
	out := pod.DeepCopy()
	out.Namespace = facts.Namespace
	out.Spec.Volumes = slices.DeleteFunc(out.Spec.Volumes, func(v corev1.Volume) bool {
		known := v.PersistentVolumeClaim != nil && slices.ContainsFunc(facts.Claims, func(c *corev1.PersistentVolumeClaim) bool {
			return c.Name == v.PersistentVolumeClaim.ClaimName
		})
		return v.Ephemeral != nil || v.PersistentVolumeClaim != nil && !known
	})
	return out
}

// Place implements rollout.Room.
func (n nodes) Place(pod *corev1.Pod) bool {
	p := n.candidate(pod)
	decision := n.cluster.Decide(p)
	if decision.Node == "" {
		return false
	}
	n.cluster.Assume(p, decision.Node)
	return true
}

// Leave implements rollout.Room.
func (n nodes) Leave(uid types.UID) { n.cluster.RemovePod(uid) }

// withRequests gives a pod that was made from a template what the API server
// gives it: limits are requests where there are none.
func withRequests(pod *corev1.Pod) *corev1.Pod {
	out := pod.DeepCopy()
	for _, list := range [][]corev1.Container{out.Spec.InitContainers, out.Spec.Containers} {
		for i := range list {
			r := &list[i].Resources
			for name, limit := range r.Limits {
				if _, has := r.Requests[name]; !has {
					if r.Requests == nil {
						r.Requests = corev1.ResourceList{}
					}
					r.Requests[name] = limit
				}
			}
		}
	}
	return out
}

// noRoom finds that pods have no node, if that keeps the change from its end.
func noRoom(facts *Facts, ideal, real rollout.Forecast) []Finding {
	if real.Complete || !ideal.Complete || len(real.Homeless) == 0 {
		return nil
	}
	room := roomOf(facts)
	again := forecastIn(facts, room) // leaves the room as it is when it is stuck
	pod := again.Homeless[0]
	decision := room.cluster.Decide(room.candidate(pod))
	found := 0
	for _, w := range real.Waves {
		found += int(w.Starting)
	}
	f := Finding{
		What: fmt.Sprintf("no node has room for %s%s: %s", pods(int32(len(real.Homeless))), requestsOf(pod), foundRoom(found, ideal, real)),
		Mend: mend(decision, facts),
	}
	if len(decision.Refusals) == 0 {
		f.Details = []string{decision.Why}
	}
	for i, r := range decision.Refusals {
		if i == maxDetails {
			f.Details = append(f.Details, fmt.Sprintf("and %d more", len(decision.Refusals)-i))
			break
		}
		f.Details = append(f.Details, fmt.Sprintf("node %s: %s: %s", r.Node, r.Reason, r.Mend))
	}
	return []Finding{f}
}

// foundRoom says how far the room goes.
func foundRoom(found int, ideal, real rollout.Forecast) string {
	if found == 0 {
		return "it cannot begin"
	}
	return fmt.Sprintf("it stops in wave %d of %d, with %s started", len(real.Waves), len(ideal.Waves), pods(int32(found)))
}

// mend says what would give the pods room.
func mend(decision fit.Decision, facts *Facts) string {
	var mends []string
	says := func(what string) bool {
		return slices.ContainsFunc(decision.Refusals, func(r fit.Refusal) bool { return strings.HasPrefix(r.Reason, what) })
	}
	switch {
	case says("Insufficient"):
		mends = append(mends, "lower the requests", "add a node")
	case says("Too many pods"):
		mends = append(mends, "add a node")
	case len(decision.Refusals) > 0:
		mends = append(mends, "do for one node what is said above")
	}
	if inPlace(facts) {
		mends = append(mends, "set maxSurge 0 and maxUnavailable 1, which needs no more room")
	}
	return strings.Join(mends, ", or ")
}

// inPlace says whether the change would succeed if each new pod took the place of
// an old one.
func inPlace(facts *Facts) bool {
	s := snapshot(facts)
	if isRecreate(s.Deployment) || facts.Before == nil {
		return false
	}
	s.Deployment.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{
		MaxSurge: ptr.To(intstr.FromInt32(0)), MaxUnavailable: ptr.To(intstr.FromInt32(1)),
	}
	return rollout.ForecastOf(s, roomOf(facts)).Complete
}

// requestsOf says what a pod requests, in parentheses; nothing if it requests
// nothing.
func requestsOf(pod *corev1.Pod) string {
	var parts []string
	sum := corev1.ResourceList{}
	for _, c := range withRequests(pod).Spec.Containers {
		for name, q := range c.Resources.Requests {
			total := sum[name]
			total.Add(q)
			sum[name] = total
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sum)) {
		q := sum[name]
		parts = append(parts, fmt.Sprintf("%s %s", q.String(), name))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (each requests " + strings.Join(parts, ", ") + ")"
}

// podsByOwner groups pods by their controller.
func podsByOwner(list []*corev1.Pod) map[types.UID][]*corev1.Pod {
	out := map[types.UID][]*corev1.Pod{}
	for _, pod := range list {
		if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
			out[owner.UID] = append(out[owner.UID], pod)
		}
	}
	return out
}

// hosts returns the nodes that may run the Deployment's pods if they are empty.
func hosts(facts *Facts) []*corev1.Node {
	pod := withStorage(withRequests(&corev1.Pod{Spec: facts.After.Spec.Template.Spec}), &Facts{})
	var out []*corev1.Node
	for _, node := range facts.Nodes {
		alone := fit.NewCluster()
		alone.SetNode(node)
		if alone.Decide(fit.NewPod(pod)).Node != "" {
			out = append(out, node)
		}
	}
	return out
}
