package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/controllertest"
)

func scheduled(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodScheduled {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func readyNode(t *testing.T, c client.Client, name, cpu string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := c.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("110")}
	n.Status.Capacity = n.Status.Allocatable
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := c.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// TestAgainstAPI schedules on the real API server: a pod that does not fit is
// told why, once, and gets its node when one is added; many pods at once fill
// the nodes and overbook none.
func TestAgainstAPI(t *testing.T) {
	events := record.NewFakeRecorder(1000)
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, events) })
	ctx := t.Context()
	create := func(name, cpu string) *corev1.Pod {
		t.Helper()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}}}
		if err := c.Create(ctx, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	read := func(p *corev1.Pod) *corev1.Pod {
		t.Helper()
		if err := c.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	readyNode(t, c, "small", "500m")
	big := create("big", "2")
	controllertest.Eventually(t, "the pod is told why it has no node", func() bool { return scheduled(read(big)) != nil })
	want := "0/1 nodes are available: 1 Insufficient cpu. To mend: the pod requests 2 cpu, node small has 500m in all: request less or add a larger node."
	if s := scheduled(big); s.Status != corev1.ConditionFalse || s.Reason != "Unschedulable" || s.Message != want {
		t.Errorf("condition %v, want message %q", s, want)
	}
	readyNode(t, c, "large", "4")
	controllertest.Eventually(t, "the pod gets the node that was added", func() bool { return read(big).Spec.NodeName == "large" })
	if s := scheduled(big); s.Status != corev1.ConditionTrue || s.Message != "" {
		t.Errorf("condition %v of a pod that has a node", s)
	}

	began := time.Now()
	var many []*corev1.Pod
	for i := range 30 { // room for 2 on small and 8 on large
		many = append(many, create(fmt.Sprintf("p%d", i), "250m"))
	}
	on := map[string]int{}
	controllertest.Eventually(t, "every pod is decided on", func() bool {
		clear(on)
		for _, p := range many {
			if read(p); p.Spec.NodeName == "" && scheduled(p) == nil {
				return false
			}
			on[p.Spec.NodeName]++
		}
		return on["small"]+on["large"] == 10
	})
	t.Logf("30 pods created and decided on in %v", time.Since(began).Round(time.Millisecond))
	if on["small"] != 2 || on["large"] != 8 {
		t.Errorf("pods on nodes: %v, want 2 on small and 8 on large", on)
	}
	if first := <-events.Events; !strings.HasPrefix(first, "Warning FailedScheduling 0/1 nodes") {
		t.Errorf("first event %q", first)
	}
	for e := range events.Events { // it may have been told in between that large is not ready
		if !strings.HasPrefix(e, "Warning FailedScheduling 0/2 nodes") {
			if e != "Normal Scheduled Successfully assigned default/big to large" {
				t.Errorf("event %q", e)
			}
			break
		}
	}
}

// TestLatency reports how long a pod waits for its node, from the answer to its
// creation to the binding seen.
func TestLatency(t *testing.T) {
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(1000)) })
	readyNode(t, c, "n", "64")
	for i := range 10 {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i), Namespace: "default"},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		if err := c.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		controllertest.Eventually(t, "the pod has a node", func() bool {
			return c.Get(t.Context(), client.ObjectKeyFromObject(p), p) == nil && p.Spec.NodeName != ""
		})
		t.Logf("bound after %v", time.Since(began).Round(100*time.Microsecond))
	}
}

// TestPreemptionAgainstAPI: a pod of higher priority gets the place of another,
// and both say why.
func TestPreemptionAgainstAPI(t *testing.T) {
	c := controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(1000)) })
	readyNode(t, c, "only", "1")
	if err := c.Create(t.Context(), &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000}); err != nil {
		t.Fatal(err)
	}
	create := func(name, class string) *corev1.Pod {
		t.Helper()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.PodSpec{PriorityClassName: class,
			Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("700m")}}}}}}
		if err := c.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	read := func(p *corev1.Pod) *corev1.Pod {
		t.Helper()
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	low := create("low", "")
	controllertest.Eventually(t, "the first pod has the node", func() bool { return read(low).Spec.NodeName == "only" })
	high := create("high", "high")
	controllertest.Eventually(t, "the first pod makes way", func() bool { return read(low).DeletionTimestamp != nil })
	if !slices.ContainsFunc(low.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Reason == "PreemptionByScheduler"
	}) {
		t.Errorf("it does not say why: %+v", low.Status.Conditions)
	}
	controllertest.Eventually(t, "the second is nominated", func() bool { return read(high).Status.NominatedNodeName == "only" })
	if err := c.Delete(t.Context(), low, client.GracePeriodSeconds(0)); err != nil { // as the node's agent does
		t.Fatal(err)
	}
	controllertest.Eventually(t, "the second pod has the node", func() bool { return read(high).Spec.NodeName == "only" })
}
