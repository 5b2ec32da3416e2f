package podrange

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

func named(name string, age int, podRange string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(1000-age), 0))}}
	if podRange != "" {
		node.Spec.PodCIDR, node.Spec.PodCIDRs = podRange, []string{podRange}
	}
	return node
}

func TestPlan(t *testing.T) {
	ranges := Ranges{Within: netip.MustParsePrefix("10.42.0.0/22"), Bits: 24, Reserved: map[string]netip.Prefix{"server": netip.MustParsePrefix("10.42.0.0/24")}}
	for _, test := range []struct {
		name  string
		nodes []*corev1.Node
		want  string
	}{
		{"none", nil, "[] []"},
		{"the server's is its own", []*corev1.Node{named("server", 0, "")}, "[{server 10.42.0.0/24}] []"},
		{"and nobody else's", []*corev1.Node{named("a", 0, "")}, "[{a 10.42.1.0/24}] []"},
		{"the oldest chooses first", []*corev1.Node{named("a", 1, ""), named("b", 2, "")}, "[{b 10.42.1.0/24} {a 10.42.2.0/24}] []"},
		{"a gap is filled", []*corev1.Node{named("a", 2, "10.42.2.0/24"), named("b", 1, "")}, "[{b 10.42.1.0/24}] []"},
		{"a wider one is avoided", []*corev1.Node{named("a", 2, "10.42.0.0/23"), named("b", 1, "")}, "[{b 10.42.2.0/24}] []"},
		{"none left", []*corev1.Node{named("a", 4, "10.42.1.0/24"), named("b", 3, "10.42.2.0/24"), named("c", 2, ""), named("d", 1, "")}, "[{c 10.42.3.0/24}] [d]"},
	} {
		if d := plan(ranges, test.nodes, nil); fmt.Sprint(d.Give, d.None) != test.want {
			t.Errorf("%s: %v %v, want %s", test.name, d.Give, d.None, test.want)
		}
	}
}

// Whatever nodes come and go, no two ever have the same range.
func TestNoDoubles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ranges := Ranges{Within: netip.MustParsePrefix("10.42.0.0/20"), Bits: 24, Reserved: map[string]netip.Prefix{"n0": netip.MustParsePrefix("10.42.0.0/24")}}
		nodes := map[string]*corev1.Node{}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := fmt.Sprintf("n%d", rapid.IntRange(0, 25).Draw(t, "node"))
			if nodes[name] != nil {
				delete(nodes, name)
			} else {
				nodes[name] = named(name, -step, "")
			}
			var all []*corev1.Node
			for _, node := range nodes {
				all = append(all, node)
			}
			for _, give := range plan(ranges, all, nil).Give {
				nodes[give.Node].Spec.PodCIDR = give.Range.String()
				nodes[give.Node].Spec.PodCIDRs = []string{give.Range.String()}
			}
			owner := map[string]string{}
			without := 0
			for _, node := range nodes {
				if node.Spec.PodCIDR == "" {
					without++
				} else if other := owner[node.Spec.PodCIDR]; other != "" {
					t.Fatalf("%s and %s both have %s", other, node.Name, node.Spec.PodCIDR)
				} else {
					owner[node.Spec.PodCIDR] = node.Name
				}
			}
			if without > 0 && len(owner) < 15 {
				t.Fatalf("%d nodes have no range while only %d of 16 are taken", without, len(owner))
			}
		}
	})
}

// The range of a node that was deleted is nobody's while its pods are there.
func TestPodsKeepTheirRange(t *testing.T) {
	ranges := Ranges{Within: netip.MustParsePrefix("10.42.0.0/22"), Bits: 24, Reserved: map[string]netip.Prefix{"server": netip.MustParsePrefix("10.42.0.0/24")}}
	pod := corev1.Pod{Spec: corev1.PodSpec{NodeName: "gone"}, Status: corev1.PodStatus{PodIP: "10.42.1.7", Phase: corev1.PodRunning}}
	ended := corev1.Pod{Status: corev1.PodStatus{PodIP: "10.42.2.7", Phase: corev1.PodFailed}}
	ofHost := corev1.Pod{Status: corev1.PodStatus{PodIP: "192.0.2.7", Phase: corev1.PodRunning}}
	const want = "[{gone 10.42.2.0/24} {new 10.42.3.0/24}] []"
	if d := plan(ranges, []*corev1.Node{named("gone", 2, ""), named("new", 1, "")}, []corev1.Pod{pod, ended, ofHost}); fmt.Sprint(d.Give, d.None) != want {
		t.Errorf("%v %v, want %s", d.Give, d.None, want)
	}
	if d := plan(ranges, []*corev1.Node{named("server", 1, "")}, []corev1.Pod{{Status: corev1.PodStatus{PodIP: "10.42.0.7"}}}); fmt.Sprint(d.Give) != "[{server 10.42.0.0/24}]" {
		t.Errorf("the server's node gets %v", d.Give)
	}
}
