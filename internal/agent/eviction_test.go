package agent_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/eviction"
)

func testEviction(t *testing.T, h *harness) {
	thresholds, err := eviction.Parse("memory.available<100Mi")
	if err != nil {
		t.Fatal(err)
	}
	h.policy = agent.Policy{Eviction: thresholds, PressureLasts: time.Hour}
	h.node.Leave(map[eviction.Signal]eviction.Level{eviction.MemoryAvailable: {Available: 1 << 30, Capacity: 1 << 30}})
	h.start()
	modest := h.untilReady(h.pod("modest", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}
	}))
	greedy := h.untilReady(h.pod("greedy", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = nil }))
	h.node.Use(string(modest.UID), agent.Used{Memory: 900 << 20}, 0)
	h.node.Use(string(greedy.UID), agent.Used{Memory: 50 << 20}, 0)
	h.node.Leave(map[eviction.Signal]eviction.Level{eviction.MemoryAvailable: {Available: 50 << 20, Capacity: 1 << 30}})
	h.stop() // started again, it looks at once
	h.start()
	h.until("the eviction of what uses more than it asks for", func() bool { return h.get(greedy).Status.Phase == corev1.PodFailed })
	status := h.get(greedy).Status
	const message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container web was using 50Mi, request is 0, has larger consumption of memory. "
	if status.Reason != "Evicted" || status.Message != message {
		t.Errorf("%s: %q", status.Reason, status.Message)
	}
	if c := condition(h.get(greedy), corev1.DisruptionTarget); c.Status != corev1.ConditionTrue || c.Reason != corev1.PodReasonTerminationByKubelet {
		t.Errorf("%+v", c)
	}
	h.until("the end of its container", func() bool {
		for _, c := range h.node.Containers() {
			if c.PodUID == string(greedy.UID) && c.Phase == agent.ContainerRunning {
				return false
			}
		}
		return true
	})
	if phase := h.get(modest).Status.Phase; phase != corev1.PodRunning {
		t.Errorf("the other pod is %s", phase)
	}
	if !h.events.has("Evicted") {
		t.Error("no Event tells of it")
	}
	var node corev1.Node
	h.until("memory pressure in the node's conditions", func() bool {
		if err := h.client.Get(t.Context(), client.ObjectKey{Name: h.name}, &node); err != nil {
			return false
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeMemoryPressure {
				return c.Status == corev1.ConditionTrue && c.Reason == "KubeletHasInsufficientMemory"
			}
		}
		return false
	})
	late := h.pod("late", nil)
	h.until("the refusal of another that asks for nothing", func() bool {
		s := h.get(late).Status
		return s.Reason == "Evicted" && strings.Contains(s.Message, "The node had condition: [MemoryPressure]")
	})
}

// What has finished gives its container back when the node is short of disk; what
// finishes when that is over keeps it, and its log.
func testReclaim(t *testing.T, h *harness) {
	thresholds, err := eviction.Parse("nodefs.available<10%")
	if err != nil {
		t.Fatal(err)
	}
	h.policy = agent.Policy{Eviction: thresholds, PressureLasts: time.Millisecond}
	leave := func(available int64) {
		h.node.Leave(map[eviction.Signal]eviction.Level{eviction.NodeFSAvailable: {Available: available, Capacity: 100}})
	}
	leave(100)
	h.start()
	once := func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }
	finish := func(pod *corev1.Pod) {
		h.node.End(agent.ContainerID(string(pod.UID), "web", 0), 0)
		h.until("the end of its container", func() bool { return h.get(pod).Status.Phase == corev1.PodSucceeded })
	}
	kept := func(pod *corev1.Pod) bool {
		return slices.ContainsFunc(h.node.Containers(), func(c agent.Container) bool { return c.PodUID == string(pod.UID) })
	}
	before, later, evicted := h.untilReady(h.pod("before", once)), h.untilReady(h.pod("later", once)), h.untilReady(h.pod("evicted", once))
	h.node.Use(string(evicted.UID), agent.Used{}, 50)
	finish(before)
	h.stop() // started again, it looks at once
	leave(5)
	h.start()
	h.until("the eviction that follows on a look", func() bool { return h.get(evicted).Status.Phase == corev1.PodFailed })
	leave(100)
	if kept(before) {
		t.Error("the node is short of disk, and the container of a pod that had finished was kept")
	}
	finish(later)
	h.until("all to be given back of the pod that has finished", func() bool {
		_, err := os.Lstat(filepath.Join(h.data, "pods", string(later.UID), "volumes"))
		return os.IsNotExist(err)
	})
	if !kept(later) {
		t.Error("the node was short of disk once, and the container of a pod that finished afterwards was removed")
	}
}

// A pod that fills the disk is given up before the turn of evictions, of which there
// are none here; one that holds more stays.
func testGuard(t *testing.T, h *harness) {
	const gi = 1 << 30
	leave := func(available int64) {
		h.node.Leave(map[eviction.Signal]eviction.Level{eviction.NodeFSAvailable: {Available: available, Capacity: 100 * gi}})
	}
	leave(20 * gi)
	h.start()
	large := h.untilReady(h.pod("large", nil))
	fast := h.untilReady(h.pod("fast", nil))
	h.node.Use(string(large.UID), agent.Used{}, 50*gi)
	written := int64(0)
	h.until("the end of who fills the disk", func() bool {
		written += gi / 4
		h.node.Use(string(fast.UID), agent.Used{}, written)
		leave(max(20*gi-written, 0))
		return h.get(fast).Status.Phase == corev1.PodFailed
	})
	if s := h.get(fast).Status; s.Reason != "Evicted" || !strings.HasPrefix(s.Message, "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: ") {
		t.Errorf("%s: %q", s.Reason, s.Message)
	}
	if phase := h.get(large).Status.Phase; phase != corev1.PodRunning {
		t.Errorf("the other pod is %s", phase)
	}
}

// Pods that are in keep their place over a restart; one that is too many fails,
// until another has gone.
func testAdmission(t *testing.T, h *harness) {
	h.maxPods = 1
	h.start()
	first := h.untilReady(h.pod("first", nil))
	h.stop()
	h.start()
	second := h.pod("second", nil)
	h.until("the refusal of the second", func() bool { return h.get(second).Status.Reason == "OutOfpods" })
	if s := h.get(second).Status; s.Phase != corev1.PodFailed || len(s.ContainerStatuses) > 0 {
		t.Errorf("%+v", s)
	}
	if !ready(h.get(first)) {
		t.Error("the first is not ready any more")
	}
	if err := h.client.Delete(t.Context(), h.get(first), client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	h.until("the first to be gone", func() bool {
		return client.IgnoreNotFound(h.client.Get(t.Context(), client.ObjectKeyFromObject(first), &corev1.Pod{})) == nil && len(h.node.Containers()) == 0
	})
	h.untilReady(h.pod("third", nil))
}

func TestDiskUsage(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	before, err := agent.DiskUsage(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a", "b", "f"), strings.Repeat("x", 1<<20))
	if err := os.Symlink("/", filepath.Join(dir, "root")); err != nil {
		t.Fatal(err)
	}
	if after, err := agent.DiskUsage(t.Context(), dir); err != nil || after.Bytes-before.Bytes < 1<<20 || after.Bytes-before.Bytes > 2<<20 || after.Inodes != before.Inodes+2 {
		t.Errorf("%+v and then %+v, %v", before, after, err)
	}
	before, err = agent.DiskUsage(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a", "b", "f"), filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	if after, err := agent.DiskUsage(t.Context(), dir); err != nil || after != before {
		t.Errorf("another name of a file takes something: %+v and then %+v, %v", before, after, err)
	}
	if os.Geteuid() == 0 {
		mounted := filepath.Join(dir, "a", "mounted")
		if err := os.Mkdir(mounted, 0o700); err != nil {
			t.Fatal(err)
		}
		if before, err = agent.DiskUsage(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, "size=2m"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) }()
		write(t, filepath.Join(mounted, "f"), strings.Repeat("x", 1<<20))
		if after, err := agent.DiskUsage(t.Context(), dir); err != nil || after.Bytes > before.Bytes {
			t.Errorf("what is mounted below takes something: %+v and then %+v, %v", before, after, err)
		}
	}
	if n, err := agent.DiskUsage(t.Context(), filepath.Join(dir, "none")); n != (eviction.Disk{}) || err != nil {
		t.Errorf("what is not there has %+v, %v", n, err)
	}
}
