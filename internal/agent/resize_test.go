package agent_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
)

// Pods are resized as far as their node has room: one that it does not have now waits
// for it, also over a restart of the agent, and one that it never has is refused.
func testResize(t *testing.T, h *harness) {
	h.start()
	var node corev1.Node
	h.until("the node is there", func() bool {
		return h.client.Get(context.Background(), client.ObjectKey{Name: h.name}, &node) == nil && !node.Status.Allocatable.Memory().IsZero()
	})
	all := node.Status.Allocatable.Memory().Value()
	asking := func(bytes int64) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceMemory: *resource.NewQuantity(bytes, resource.BinarySI)}
	}
	make := func(name string) *corev1.Pod {
		return h.pod(name, func(p *corev1.Pod) {
			p.Annotations = map[string]string{v1alpha1.AnnotationDrain: v1alpha1.DrainOff} // no proxy here confirms it
			p.Spec.Containers[0].Resources.Requests = asking(all / 4)
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.RestartContainer}}
		})
	}
	p, other := make("p"), make("other")
	h.untilReady(p)
	h.untilReady(other)
	resize := func(to corev1.ResourceList) {
		t.Helper()
		pod := h.get(p)
		for name, quantity := range to {
			pod.Spec.Containers[0].Resources.Requests[name] = quantity
		}
		if err := h.client.SubResource("resize").Update(context.Background(), pod); err != nil {
			t.Fatal(err)
		}
	}
	granted := func(bytes int64) bool {
		status := h.get(p).Status.ContainerStatuses[0]
		return status.AllocatedResources.Memory().Value() == bytes && status.Resources != nil && status.Resources.Requests.Memory().Value() == bytes
	}
	pending := func(reason string) func() bool {
		return func() bool { return condition(h.get(p), corev1.PodResizePending).Reason == reason }
	}

	resize(asking(all / 2))
	h.until("it is resized", func() bool { return granted(all / 2) })
	h.until("it is told", func() bool { return h.events.has("ResizeStarted") && h.events.has("ResizeCompleted") })
	resize(asking(all * 2))
	h.until("too much", pending(corev1.PodReasonInfeasible))
	resize(asking(all / 8 * 7))
	h.until("too much for now", pending(corev1.PodReasonDeferred))
	h.stop()
	h.start()
	h.until("the new agent has seen it", func() bool { return h.get(p).Generation == h.get(p).Status.ObservedGeneration })
	if !pending(corev1.PodReasonDeferred)() || !granted(all/2) {
		t.Errorf("after a restart: %+v", h.get(p).Status)
	}
	if err := h.client.Delete(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	h.until("it has what the other had", func() bool { return granted(all / 8 * 7) })
	h.until("nothing is pending", pending(""))
	if restarts := h.get(p).Status.ContainerStatuses[0].RestartCount; restarts != 0 {
		t.Errorf("restarted %d times", restarts)
	}
	resize(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m")})
	h.until("it is restarted", func() bool { return h.get(p).Status.ContainerStatuses[0].RestartCount == 1 && ready(h.get(p)) })
	h.until("it is told", func() bool { return h.events.has("Killing: Container web resize requires restart") })
	if r := h.get(p).Status.ContainerStatuses[0].Resources.Requests; r.Cpu().String() != "1m" {
		t.Errorf("restarted with %v", r)
	}
}
