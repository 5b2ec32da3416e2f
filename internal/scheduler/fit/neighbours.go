package fit

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// term is a rule of a pod about others in one domain: nodes with the same value
// of a label.
type term struct {
	key        string // the label
	weight     int64  // of a preference; negative away
	namespaces []string
	among      labels.Selector // of namespaces, beside those; nil for none
	pods       labels.Selector
}

// social is what a pod's affinity says of other pods.
type social struct {
	near, apart []term // required
	liked       []term
}

// socialOf reads a pod's rules on others; nil when it has none.
func socialOf(object *corev1.Pod) *social {
	a := object.Spec.Affinity
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	s := &social{}
	if near := a.PodAffinity; near != nil {
		for i := range near.RequiredDuringSchedulingIgnoredDuringExecution {
			s.near = append(s.near, termOf(object, &near.RequiredDuringSchedulingIgnoredDuringExecution[i], 0))
		}
		for i := range near.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &near.PreferredDuringSchedulingIgnoredDuringExecution[i]
			s.liked = append(s.liked, termOf(object, &w.PodAffinityTerm, int64(w.Weight)))
		}
	}
	if apart := a.PodAntiAffinity; apart != nil {
		for i := range apart.RequiredDuringSchedulingIgnoredDuringExecution {
			s.apart = append(s.apart, termOf(object, &apart.RequiredDuringSchedulingIgnoredDuringExecution[i], 0))
		}
		for i := range apart.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &apart.PreferredDuringSchedulingIgnoredDuringExecution[i]
			s.liked = append(s.liked, termOf(object, &w.PodAffinityTerm, -int64(w.Weight)))
		}
	}
	return s
}

func termOf(object *corev1.Pod, t *corev1.PodAffinityTerm, weight int64) term {
	read := term{key: t.TopologyKey, weight: weight, namespaces: t.Namespaces, pods: selectorOf(object, t.LabelSelector, t.MatchLabelKeys, t.MismatchLabelKeys)}
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		read.namespaces = []string{object.Namespace}
	}
	if t.NamespaceSelector != nil {
		if among, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector); err == nil {
			read.among = among
		}
	}
	return read
}

// selectorOf is a label selector with what the pod's own labels add to it. One
// that cannot be read, which validation lets nobody store, selects nothing.
func selectorOf(object *corev1.Pod, s *metav1.LabelSelector, same, other []string) labels.Selector {
	if s == nil {
		return labels.Nothing()
	}
	s = s.DeepCopy()
	for operator, keys := range map[metav1.LabelSelectorOperator][]string{metav1.LabelSelectorOpIn: same, metav1.LabelSelectorOpNotIn: other} {
		for _, key := range keys {
			if value, has := object.Labels[key]; has {
				s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: []string{value}})
			}
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

// matches says whether a rule is about a pod; spaces has the labels of namespaces.
func (t *term) matches(other *corev1.Pod, spaces map[string]labels.Set) bool {
	return t.pods.Matches(labels.Set(other.Labels)) &&
		(slices.Contains(t.namespaces, other.Namespace) || t.among != nil && t.among.Matches(spaces[other.Namespace]))
}

// domain is a value of a label of nodes.
type domain struct{ key, value string }

func domainOf(n *node, key string) (domain, bool) {
	value, has := n.object.Labels[key]
	return domain{key, value}, has
}

// neighbourhood is what the rules of a pod and those of the pods that are there
// amount to, domain by domain. It is worked out once for a decision.
type neighbourhood struct {
	near    map[domain]int   // pods that all the required terms are about
	anybody bool             // there are such pods somewhere
	itself  bool             // the pod is one, so that it may be the first
	apart   []map[domain]int // for each of the pod's terms
	repel   map[domain]*corev1.Pod
	liked   map[domain]int64
	spread  []spread
}

// neighbourhood works out a pod's; without counts pods as if they were gone.
func (c *Cluster) neighbourhood(p *Pod, nodes []*node, without map[types.UID]bool) *neighbourhood {
	h := &neighbourhood{near: map[domain]int{}, repel: map[domain]*corev1.Pod{}, liked: map[domain]int64{}}
	if p.social != nil {
		h.apart = make([]map[domain]int, len(p.social.apart))
		for i := range h.apart {
			h.apart[i] = map[domain]int{}
		}
		h.itself = all(p.social.near, p.Object, c.spaces)
	}
	for _, n := range nodes {
		if p.social != nil {
			for uid, other := range n.pods {
				if !without[uid] {
					h.meet(p, n, other, c.spaces)
				}
			}
		}
		for uid := range n.opinions {
			if other := n.pods[uid]; !without[uid] {
				h.bear(p, n, other, c.spaces)
			}
		}
	}
	h.spread = spreadOf(p, nodes, without)
	return h
}

func all(terms []term, object *corev1.Pod, spaces map[string]labels.Set) bool {
	for i := range terms {
		if !terms[i].matches(object, spaces) {
			return false
		}
	}
	return true
}

// meet counts a pod that is there by the rules of the new one.
func (h *neighbourhood) meet(p *Pod, n *node, other *Pod, spaces map[string]labels.Set) {
	if len(p.social.near) > 0 && all(p.social.near, other.Object, spaces) {
		h.anybody = true
		for _, t := range p.social.near {
			if d, has := domainOf(n, t.key); has {
				h.near[d]++
			}
		}
	}
	for i := range p.social.apart {
		if t := &p.social.apart[i]; t.matches(other.Object, spaces) {
			if d, has := domainOf(n, t.key); has {
				h.apart[i][d]++
			}
		}
	}
	for i := range p.social.liked {
		if t := &p.social.liked[i]; t.matches(other.Object, spaces) {
			if d, has := domainOf(n, t.key); has {
				h.liked[d] += t.weight
			}
		}
	}
}

// bear counts what a pod that is there has against the new one, or for it.
func (h *neighbourhood) bear(p *Pod, n *node, other *Pod, spaces map[string]labels.Set) {
	for i := range other.social.apart {
		if t := &other.social.apart[i]; t.matches(p.Object, spaces) {
			if d, has := domainOf(n, t.key); has {
				h.repel[d] = other.Object
			}
		}
	}
	for i := range other.social.liked {
		if t := &other.social.liked[i]; t.matches(p.Object, spaces) {
			if d, has := domainOf(n, t.key); has {
				h.liked[d] += t.weight
			}
		}
	}
}

// refusals returns why other pods keep the pod from a node; nothing when they do not.
func (h *neighbourhood) refusals(p *Pod, n *node) []Refusal {
	refuse := func(reason, mend string, args ...any) []Refusal {
		return []Refusal{{Node: n.object.Name, Reason: reason, Mend: fmt.Sprintf(mend, args...)}}
	}
	if r := h.unevenly(p, n); r != nil {
		return r
	}
	for d, other := range h.repel {
		if has, ok := domainOf(n, d.key); ok && has == d {
			return refuse("node(s) didn't satisfy existing pods anti-affinity rules",
				"pod %s/%s, in the domain %s=%s of node %s, allows no such pod beside it: add a node in another domain", other.Namespace, other.Name, d.key, d.value, n.object.Name)
		}
	}
	if p.social == nil {
		return nil
	}
	for i, t := range p.social.apart {
		if d, has := domainOf(n, t.key); has && h.apart[i][d] > 0 {
			return refuse("node(s) didn't match pod anti-affinity rules",
				"the pod's anti-affinity forbids it beside pods %s in the domain %s=%s of node %s: add a node in another domain", t.pods, t.key, d.value, n.object.Name)
		}
	}
	for _, t := range p.social.near {
		d, has := domainOf(n, t.key)
		if !has || h.near[d] == 0 && (h.anybody || !h.itself) {
			return refuse("node(s) didn't match pod affinity rules",
				"the pod's affinity asks for pods %s in the domain of label %s; node %s has none: start such pods there, or label the node", t.pods, t.key, n.object.Name)
		}
	}
	return nil
}

// likes prefers nodes by the preferences of the pod about others, and of others about it.
func (h *neighbourhood) likes(_ *Pod, n *node) float64 {
	sum := int64(0)
	for d, weight := range h.liked {
		if has, ok := domainOf(n, d.key); ok && has == d {
			sum += weight
		}
	}
	return float64(sum)
}
