package fit

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

// Whatever order events arrive in, the sums of a cluster are those of its pods,
// and no node has more than it can take.
func TestClusterSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCluster()
		c.SetNode(makeNode("a"))
		c.SetNode(makeNode("b"))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := fmt.Sprintf("p%d", rapid.IntRange(0, 9).Draw(t, "pod"))
			p := NewPod(makePod(name, requests(fmt.Sprintf("%dm", rapid.IntRange(0, 900).Draw(t, "cpu")), "1Mi")))
			switch rapid.IntRange(0, 2).Draw(t, "event") {
			case 0:
				if d := c.Decide(p); d.Node != "" && c.pods[p.UID] == nil {
					c.Assume(p, d.Node)
				}
			case 1:
				if was := c.pods[p.UID]; was != nil { // the cache catches up
					seen := *was
					seen.assumed = false
					c.SetPod(&seen)
				}
			case 2:
				c.RemovePod(p.UID)
			}
			for name, n := range c.nodes {
				var sum int64
				for _, p := range n.pods {
					sum += p.requests[corev1.ResourceCPU]
				}
				if sum != n.used[corev1.ResourceCPU] || sum > 2000 {
					t.Fatalf("node %s: sum %d, used %d of 2000", name, sum, n.used[corev1.ResourceCPU])
				}
			}
		}
	})
}
