package tainteviction

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/topology"

	"windlass.dev/windlass/internal/condition"
)

// excluded is the label of nodes that say nothing of their zone.
const excluded = "node.kubernetes.io/exclude-disruption"

// A zone is disturbed in part when more than fewNodes of it are not ready and they are
// disturbedPercent of it or more, as in Kubernetes (--unhealthy-zone-threshold 0.55).
const (
	fewNodes         = 2
	disturbedPercent = 55
)

// zone counts the nodes of one.
type zone struct{ ready, unready int }

// dark: none of its nodes is ready.
func (z zone) dark() bool { return z.ready == 0 }

// disturbed: so many of its nodes are not ready that the way to them is more likely
// to be lost than they are.
func (z zone) disturbed() bool {
	return z.ready > 0 && z.unready > fewNodes && z.unready*100 >= disturbedPercent*(z.unready+z.ready)
}

// zonesOf counts the nodes of every zone, by the key of topology.GetZoneKey.
func zonesOf(nodes []corev1.Node) map[string]zone {
	zones := map[string]zone{}
	for i := range nodes {
		if _, out := nodes[i].Labels[excluded]; out {
			continue
		}
		key := topology.GetZoneKey(&nodes[i])
		z := zones[key]
		if condition.OfNode(&nodes[i], corev1.NodeReady) {
			z.ready++
		} else {
			z.unready++
		}
		zones[key] = z
	}
	return zones
}

// held: the trouble of nodes of a zone evicts nobody now. That of a zone that is dark
// does while another is not: it is lost as a whole, and there is somewhere to go.
func held(zones map[string]zone, key string) bool {
	for _, z := range zones {
		if !z.dark() {
			return zones[key].disturbed()
		}
	}
	return true
}
