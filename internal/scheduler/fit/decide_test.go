package fit

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func makeNode(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("2"),
				corev1.ResourceMemory: resource.MustParse("1Gi"),
				corev1.ResourcePods:   resource.MustParse("10"),
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func makePod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), ResourceVersion: "1"},
		Spec:       corev1.PodSpec{SchedulerName: corev1.DefaultSchedulerName, Containers: []corev1.Container{{Name: "c"}}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func requests(cpu, memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list(cpu, memory) }
}

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func hostPortOf(port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: port, ContainerPort: port}}
	}
}
func ownedBy(uid string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(uid), Controller: ptr.To(true)}}
	}
}
func taint(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}
func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }
func down(n *corev1.Node) {
	n.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown"}
}
func required(key string, values ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}},
			}}}}}
	}
}

func TestDecide(t *testing.T) {
	tests := []struct {
		name  string
		nodes []*corev1.Node
		there []*corev1.Pod
		pod   *corev1.Pod
		want  string // "node: why" or the message
	}{{
		name:  "one node",
		nodes: []*corev1.Node{makeNode("a")},
		pod:   makePod("p"),
		want:  "a: the only node that fits",
	}, {
		name: "no node",
		pod:  makePod("p"),
		want: "0/0 nodes are available: no nodes available to schedule pods. To mend: start a node's agent.",
	}, {
		name:  "too little cpu left",
		nodes: []*corev1.Node{makeNode("a")},
		there: []*corev1.Pod{makePod("q", requests("1800m", "0"), on("a"))},
		pod:   makePod("p", requests("700m", "0")),
		want: "0/1 nodes are available: 1 Insufficient cpu. " +
			"To mend: the pod requests 700m cpu, node a has 200m free of 2: request less or free some.",
	}, {
		name:  "more than any node has, and the nearest is named",
		nodes: []*corev1.Node{makeNode("a"), makeNode("b", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("4") })},
		pod:   makePod("p", requests("8", "2Gi")),
		want: "0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory. " +
			"To mend: the pod requests 8 cpu, node b has 4 in all: request less or add a larger node; " +
			"the pod requests 2Gi memory, node a has 1Gi in all: request less or add a larger node.",
	}, {
		name:  "the largest init container counts, not their sum",
		nodes: []*corev1.Node{makeNode("a")},
		pod: makePod("p", requests("500m", "0"), func(p *corev1.Pod) {
			big := corev1.Container{Resources: corev1.ResourceRequirements{Requests: list("1500m", "0")}}
			p.Spec.InitContainers = []corev1.Container{big, big}
		}),
		want: "a: the only node that fits",
	}, {
		name:  "a sidecar counts beside the containers",
		nodes: []*corev1.Node{makeNode("a")},
		pod: makePod("p", requests("1500m", "0"), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{
				RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways),
				Resources:     corev1.ResourceRequirements{Requests: list("600m", "0")}}}
		}),
		want: "0/1 nodes are available: 1 Insufficient cpu. " +
			"To mend: the pod requests 2100m cpu, node a has 2 in all: request less or add a larger node.",
	}, {
		name:  "too many pods",
		nodes: []*corev1.Node{makeNode("a", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1") })},
		there: []*corev1.Pod{makePod("q", on("a"))},
		pod:   makePod("p"),
		want:  "0/1 nodes are available: 1 Too many pods. To mend: node a runs 1 pods of at most 1.",
	}, {
		name:  "each node has its own reason",
		nodes: []*corev1.Node{makeNode("a", cordoned), makeNode("b", taint("gpu", corev1.TaintEffectNoSchedule)), makeNode("c", down)},
		pod:   makePod("p"),
		want: "0/3 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were not ready, 1 node(s) were unschedulable. " +
			"To mend: tolerate gpu:NoSchedule or remove it from node b; bring node c back (NodeStatusUnknown); uncordon node a.",
	}, {
		name:  "each taint is mended in its own way",
		nodes: []*corev1.Node{makeNode("a", taint("gpu", corev1.TaintEffectNoSchedule)), makeNode("b", taint("db", corev1.TaintEffectNoSchedule))},
		pod:   makePod("p"),
		want: "0/2 nodes are available: 2 node(s) had untolerated taint(s). " +
			"To mend: tolerate db:NoSchedule or remove it from node b; tolerate gpu:NoSchedule or remove it from node a.",
	}, {
		name:  "tolerations open all of them",
		nodes: []*corev1.Node{makeNode("a", cordoned, down, taint("gpu", corev1.TaintEffectNoExecute))},
		pod:   makePod("p", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} }),
		want:  "a: the only node that fits",
	}, {
		name:  "nodeSelector",
		nodes: []*corev1.Node{makeNode("a")},
		pod:   makePod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
		want: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. " +
			"To mend: label a node disk=ssd, or change the pod's nodeSelector.",
	}, {
		name:  "required node affinity",
		nodes: []*corev1.Node{makeNode("a"), makeNode("b")},
		pod:   makePod("p", required("kubernetes.io/hostname", "b")),
		want:  "b: the only node that fits",
	}, {
		name:  "a host port that is taken",
		nodes: []*corev1.Node{makeNode("a")},
		there: []*corev1.Pod{makePod("q", hostPortOf(80), on("a"))},
		pod:   makePod("p", hostPortOf(80)),
		want: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. " +
			"To mend: host port 80/TCP on node a is taken by pod default/q.",
	}, {
		name:  "scheduling gates",
		nodes: []*corev1.Node{makeNode("a")},
		pod:   makePod("p", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }),
		want:  "Scheduling is blocked due to non-empty scheduling gates",
	}, {
		name:  "pods of one owner are spread, even to the fuller node",
		nodes: []*corev1.Node{makeNode("a"), makeNode("b")},
		there: []*corev1.Pod{makePod("q", ownedBy("rs"), on("a")), makePod("r", requests("1", "0"), on("b"))},
		pod:   makePod("p", ownedBy("rs")),
		want:  "b: fewest pods of the same owner",
	}, {
		name:  "the emptier node",
		nodes: []*corev1.Node{makeNode("a"), makeNode("b")},
		there: []*corev1.Pod{makePod("q", requests("1", "0"), on("a"))},
		pod:   makePod("p"),
		want:  "b: least allocated",
	}, {
		name:  "a taint to avoid",
		nodes: []*corev1.Node{makeNode("a", taint("busy", corev1.TaintEffectPreferNoSchedule)), makeNode("b")},
		there: []*corev1.Pod{makePod("q", requests("1", "0"), on("b"))},
		pod:   makePod("p"),
		want:  "b: fewest taints to avoid",
	}, {
		name:  "preferred affinity",
		nodes: []*corev1.Node{makeNode("a"), makeNode("b")},
		there: []*corev1.Pod{makePod("q", requests("1", "0"), on("b"))},
		pod: makePod("p", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 1, Preference: corev1.NodeSelectorTerm{
					MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}}}}}}
		}),
		want: "b: preferred affinity",
	}, {
		name:  "equal nodes",
		nodes: []*corev1.Node{makeNode("a"), makeNode("b")},
		pod:   makePod("p"),
		want:  "a: all nodes are equal",
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := NewCluster()
			for _, n := range test.nodes {
				c.SetNode(n)
			}
			for _, p := range test.there {
				c.SetPod(NewPod(p))
			}
			d := c.Decide(NewPod(test.pod))
			got := d.Why
			if d.Node != "" {
				got = d.Node + ": " + d.Why
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, nodes := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			c := NewCluster()
			for i := range nodes {
				c.SetNode(makeNode(fmt.Sprintf("n%04d", i)))
				c.SetPod(NewPod(makePod(fmt.Sprintf("q%04d", i), requests("100m", "64Mi"), on(fmt.Sprintf("n%04d", i)))))
			}
			p := makePod("p", requests("100m", "64Mi"), ownedBy("rs"))
			for b.Loop() {
				c.Decide(NewPod(p))
			}
		})
	}
}
