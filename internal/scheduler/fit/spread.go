package fit

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// spread is one of a pod's topology spread constraints, and how many of the pods
// that it is about each domain has:
// https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/.
type spread struct {
	rule   *corev1.TopologySpreadConstraint
	counts map[domain]int
	least  int // in a domain that the pod may go to
	itself int // 1: the pod will be one of them
}

// spreadOf counts for each constraint of a pod.
func spreadOf(p *Pod, nodes []*node, without map[types.UID]bool) []spread {
	var list []spread
	for i := range p.Object.Spec.TopologySpreadConstraints {
		rule := &p.Object.Spec.TopologySpreadConstraints[i]
		selector := selectorOf(p.Object, rule.LabelSelector, rule.MatchLabelKeys, nil)
		s := spread{rule: rule, counts: map[domain]int{}}
		if selector.Matches(labels.Set(p.Object.Labels)) {
			s.itself = 1
		}
		for _, n := range nodes {
			d, has := domainOf(n, rule.TopologyKey)
			if !has || !eligible(p, rule, n) {
				continue
			}
			s.counts[d] += 0
			for uid, other := range n.pods {
				if !without[uid] && other.Object.Namespace == p.Object.Namespace && other.Object.DeletionTimestamp == nil &&
					selector.Matches(labels.Set(other.Object.Labels)) {
					s.counts[d]++
				}
			}
		}
		s.least = math.MaxInt
		for _, count := range s.counts {
			s.least = min(s.least, count)
		}
		if len(s.counts) == 0 || rule.MinDomains != nil && len(s.counts) < int(*rule.MinDomains) {
			s.least = 0
		}
		list = append(list, s)
	}
	return list
}

// eligible says whether a node's domain counts: by default where the pod's node
// affinity lets it go, whatever the taints.
func eligible(p *Pod, rule *corev1.TopologySpreadConstraint, n *node) bool {
	if rule.NodeAffinityPolicy == nil || *rule.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor {
		if affinity(p, n) != nil {
			return false
		}
	}
	return rule.NodeTaintsPolicy == nil || *rule.NodeTaintsPolicy == corev1.NodeInclusionPolicyIgnore || taints(p, n) == nil
}

// unevenly refuses nodes where the pod would make a domain too full.
func (h *neighbourhood) unevenly(_ *Pod, n *node) []Refusal {
	for i := range h.spread {
		s := &h.spread[i]
		if s.rule.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		const reason = "node(s) didn't match pod topology spread constraints"
		d, has := domainOf(n, s.rule.TopologyKey)
		if !has {
			return []Refusal{{Node: n.object.Name, Reason: reason + " (missing required label)", Mend: fmt.Sprintf("label node %s with %s", n.object.Name, s.rule.TopologyKey)}}
		}
		if skew := s.counts[d] + s.itself - s.least; skew > int(s.rule.MaxSkew) {
			return []Refusal{{Node: n.object.Name, Reason: reason, short: int64(skew) - int64(s.rule.MaxSkew), Mend: fmt.Sprintf(
				"%s=%s has %d of these pods and the emptiest domain %d, with maxSkew %d: make room in the emptiest, or raise maxSkew",
				s.rule.TopologyKey, d.value, s.counts[d], s.least, s.rule.MaxSkew)}}
		}
	}
	return nil
}

// even prefers nodes whose domains have the fewest pods of the constraints that
// are wishes.
func (h *neighbourhood) even(_ *Pod, n *node) float64 {
	sum := 0
	for i := range h.spread {
		s := &h.spread[i]
		if d, has := domainOf(n, s.rule.TopologyKey); s.rule.WhenUnsatisfiable == corev1.ScheduleAnyway && has {
			sum += s.counts[d]
		}
	}
	return -float64(sum)
}
