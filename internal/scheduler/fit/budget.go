package fit

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// budget is a PodDisruptionBudget: it says of how many of the pods that it selects
// the cluster can do without now.
type budget struct {
	object   *policyv1.PodDisruptionBudget
	selector labels.Selector
}

// SetBudget takes in a PodDisruptionBudget as it is now.
func (c *Cluster) SetBudget(object *policyv1.PodDisruptionBudget) {
	selector, err := metav1.LabelSelectorAsSelector(object.Spec.Selector)
	if err != nil {
		selector = labels.Nothing() // the API takes none such
	}
	c.budgets[types.NamespacedName{Namespace: object.Namespace, Name: object.Name}] = budget{object, selector}
}

// RemoveBudget takes a PodDisruptionBudget out.
func (c *Cluster) RemoveBudget(namespace, name string) {
	delete(c.budgets, types.NamespacedName{Namespace: namespace, Name: name})
}

// violating returns which pods budgets do not let go, when all of them go one
// after the other.
func (c *Cluster) violating(pods []*Pod) map[types.UID]bool {
	against := map[types.UID]bool{}
	spent := map[types.NamespacedName]int32{}
	for _, p := range pods {
		for name, b := range c.budgets {
			if name.Namespace != p.Object.Namespace || !b.selector.Matches(labels.Set(p.Object.Labels)) {
				continue
			}
			if _, counted := b.object.Status.DisruptedPods[p.Object.Name]; counted {
				continue // the budget has let it go
			}
			if spent[name]++; spent[name] > b.object.Status.DisruptionsAllowed {
				against[p.UID] = true
			}
		}
	}
	return against
}
