package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/hollow"
	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// patience bounds every wait of these tests, on a machine with much else to do.
const patience = 30 * time.Second

// TestAgent runs agents with a node in memory against the real API server. Each
// subtest has a node of its own.
func TestAgent(t *testing.T) {
	config := apiservertest.Start(t)
	giveAccounts(t, config)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *harness)
	}{
		{"life", testLife},
		{"restart", testRestart},
		{"orphans", testOrphans},
		{"drain", testDrain},
		{"condemned", testCondemned},
		{"unmade probe", testUnmadeProbe},
		{"force", testForce},
		{"crash", testCrash},
		{"hooks", testHooks},
		{"deadline", testDeadline},
		{"unstartable", testUnstartable},
		{"pull", testPull},
		{"config", testConfig},
		{"logs", testLogs},
		{"portforward", testPortForward},
		{"volumes", testVolumes},
		{"exec", testExec},
		{"node", testNode},
		{"eviction", testEviction},
		{"reclaim", testReclaim},
		{"guard", testGuard},
		{"admission", testAdmission},
		{"resize", testResize},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, newHarness(t, config, "node-"+strings.ReplaceAll(test.name, " ", "-")))
		})
	}
}

// giveAccounts makes what the controllers give a namespace for its pods' tokens.
func giveAccounts(t *testing.T, config *rest.Config) {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	meta := metav1.ObjectMeta{Namespace: "default", Name: "default"}
	for _, object := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: meta},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": "certificate"}},
	} {
		if err := c.Create(context.Background(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// harness is one node with the agent that runs on it.
type harness struct {
	t       *testing.T
	config  *rest.Config
	client  client.WithWatch
	node    *hollow.Node
	name    string
	data    string
	network agent.Network // default: the node's
	runtime agent.Runtime // likewise
	policy  agent.Policy
	maxPods int
	agent   *agent.Agent
	events  *events
	stop    func()
}

func newHarness(t *testing.T, config *rest.Config, name string) *harness {
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, config: config, client: c, node: hollow.New(), name: name, data: t.TempDir(), events: &events{}}
	h.node.AddImage("web", hollow.Program{Listens: []uint16{80}, ListenAfter: 5 * time.Millisecond})
	return h
}

// start runs an agent until the test ends or h.stop.
func (h *harness) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	store, err := cache.New(h.config, cache.Options{Scheme: scheme.Scheme})
	if err != nil {
		h.t.Fatal(err)
	}
	network := h.network
	if network == nil {
		network = h.node.Network()
	}
	runtime := h.runtime
	if runtime == nil {
		runtime = h.node.Runtime()
	}
	h.agent, err = agent.New(agent.Config{
		NodeName: h.name, NodeIP: netip.MustParseAddr("127.0.0.1"), PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), DataDir: h.data,
		Client: h.client, Cache: store, Recorder: h.events,
		Runtime: runtime, Images: h.node.Images(), Network: network, Meter: h.node.Meter(), Levels: h.node.Levels, Policy: h.policy, MaxPods: h.maxPods,
		Log: slog.New(slog.NewTextHandler(testWriter{h.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	var parts sync.WaitGroup
	parts.Go(func() { _ = store.Start(ctx) })
	parts.Go(func() {
		if err := h.agent.Run(ctx); err != nil {
			h.t.Errorf("agent: %v", err)
		}
	})
	h.stop = sync.OnceFunc(func() { cancel(); parts.Wait() })
	h.t.Cleanup(h.stop)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Fprint(os.Stderr, w.t.Name(), " ", string(p))
	}
	return len(p), nil
}

// events is a recorder that keeps what it is told.
type events struct {
	record.FakeRecorder
	mu   sync.Mutex
	list []string
}

func (e *events) Event(_ runtime.Object, _, reason, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, reason+": "+message)
}

func (e *events) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.list, func(s string) bool { return strings.Contains(s, text) })
}

func (h *harness) until(what string, met func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for !met() {
		if time.Now().After(deadline) {
			h.t.Fatalf("after %s not yet: %s\nnode: %v\ncalls: %v\nevents: %v", patience, what, h.node.Containers(), h.node.Calls(), h.events.list)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (h *harness) pod(name string, change func(*corev1.Pod)) *corev1.Pod {
	h.t.Helper()
	zero := int64(0)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: h.name + "-" + name, Labels: map[string]string{"app": h.name}},
		Spec: corev1.PodSpec{
			NodeName:   h.name,
			Containers: []corev1.Container{{Name: "web", Image: "web", Ports: []corev1.ContainerPort{{ContainerPort: 80}}, ImagePullPolicy: corev1.PullIfNotPresent}},
		},
	}
	if change != nil {
		change(pod)
	}
	if err := h.client.Create(context.Background(), pod); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = h.client.Delete(context.Background(), pod, &client.DeleteOptions{GracePeriodSeconds: &zero})
	})
	return pod
}

func (h *harness) get(pod *corev1.Pod) *corev1.Pod {
	h.t.Helper()
	now := &corev1.Pod{}
	if err := h.client.Get(context.Background(), client.ObjectKeyFromObject(pod), now); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		h.t.Fatal(err)
	}
	return now
}

func (h *harness) untilReady(pod *corev1.Pod) *corev1.Pod {
	h.t.Helper()
	var now *corev1.Pod
	h.until("pod is ready", func() bool { now = h.get(pod); return ready(now) })
	return now
}

func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func waiting(pod *corev1.Pod) string {
	if len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Waiting == nil {
		return ""
	}
	return pod.Status.ContainerStatuses[0].State.Waiting.Reason
}

func testLife(t *testing.T, h *harness) {
	h.node.StartTakes = 60 * time.Millisecond
	h.start()
	pod := h.untilReady(h.pod("p", nil))
	status := pod.Status.ContainerStatuses[0]
	if pod.Status.PodIP != "10.42.0.2" || pod.Status.HostIP != "127.0.0.1" || pod.Status.Phase != corev1.PodRunning ||
		!strings.HasPrefix(status.ContainerID, "windlass://") || status.ImageID != "sha256:web" || !*status.Started {
		t.Errorf("status of a pod that is ready: %+v", pod.Status)
	}
	if m := momentsOf(t, pod); m.ImageReady == nil || m.Started.Time.Before(m.ImageReady.Time) || m.Ready.Time.Before(m.Started.Time) || m.Stopped != nil {
		t.Errorf("moments of a pod that is ready: %+v", m)
	}
	took := condition(pod, corev1.PodReady).LastTransitionTime.Sub(pod.CreationTimestamp.Time)
	if took > 5*time.Second {
		t.Errorf("ready after %s", took)
	}
	for _, event := range []string{`Pulled: Container image "web" already present on machine`, "Created: Created container: web", "Started: Started container web"} {
		if !h.events.has(event) {
			t.Errorf("no event %q in %q", event, h.events.list)
		}
	}
	if err := h.client.Delete(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	h.until("pod is gone", func() bool { return h.get(pod) == nil })
	if left := h.node.Containers(); len(left) > 0 {
		t.Errorf("left on the node: %v", left)
	}
	want := []string{"network 10.42.0.2", "start web#0", "signal web#0 terminated"}
	if calls := h.node.Calls(); !slices.Equal(calls[:3], want) || len(calls) != 5 {
		t.Errorf("calls: %q, want %q, then its removal", calls, want)
	}
	for _, dir := range []string{"pods", "logs/pods"} {
		if entries, _ := os.ReadDir(filepath.Join(h.data, dir)); len(entries) > 0 {
			t.Errorf("left in %s: %v", dir, entries)
		}
	}
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// A restarted agent finds the same containers; one that ended meanwhile is seen
// with its code and started again, the others are left as they are.
func testRestart(t *testing.T, h *harness) {
	h.start()
	stays, ends := h.pod("stays", nil), h.pod("ends", nil)
	stays, ends = h.untilReady(stays), h.untilReady(ends)
	h.stop()
	h.node.End(agent.ContainerID(string(ends.UID), "web", 0), 7)
	h.node.DropExits()
	h.start()
	h.until("the ended container runs again", func() bool {
		ends = h.get(ends)
		return ready(ends) && ends.Status.ContainerStatuses[0].RestartCount == 1
	})
	if last := ends.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 7 || last.Reason != "Error" {
		t.Errorf("last state: %+v", last)
	}
	now := h.get(stays)
	if now.Status.ContainerStatuses[0].RestartCount != 0 || condition(now, corev1.PodReady) != condition(stays, corev1.PodReady) {
		t.Errorf("the pod that stays has changed: %+v", now.Status)
	}
	starts := 0
	for _, call := range h.node.Calls() {
		if strings.HasPrefix(call, "start") {
			starts++
		}
	}
	if starts != 3 {
		t.Errorf("%d starts, want 3: %q", starts, h.node.Calls())
	}
}

// What is on the node of pods that the API does not have is removed, at start.
func testOrphans(t *testing.T, h *harness) {
	network, err := h.node.Network().Setup(context.Background(), "nobody", nil)
	if err != nil {
		t.Fatal(err)
	}
	spec := agent.ContainerSpec{ID: "1", PodUID: "nobody", Name: "web", Image: "web", Args: []string{"web"}, NetNS: network.NetNS}
	if _, err := h.node.Runtime().Start(context.Background(), spec); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(h.data, "logs/pods/default_p_nobody/web")
	for _, dir := range []string{log, filepath.Join(h.data, "pods/nobody/volumes")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	h.until("the orphan is removed", func() bool {
		networks, _ := h.node.Network().List(context.Background())
		_, err := os.Stat(filepath.Dir(log))
		return len(h.node.Containers()) == 0 && len(networks) == 0 && os.IsNotExist(err)
	})
}

// The stop signal waits for the slice, the proxy and the connections.
func testDrain(t *testing.T, h *harness) {
	ctx := context.Background()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: h.name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": h.name}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if err := h.client.Create(ctx, service); err != nil {
		t.Fatal(err)
	}
	h.start()
	pod := h.untilReady(h.pod("p", nil))
	uid := string(pod.UID)
	watch, err := h.client.Watch(ctx, &corev1.PodList{}, client.InNamespace("default"), client.MatchingFields{"metadata.name": pod.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	busy := agent.Socket{State: agent.SocketEstablished, LocalPort: 80, BytesReceived: 1, LastReceived: time.Millisecond, LastSent: time.Second}
	h.node.Connect(uid, busy)
	if err := h.client.Delete(ctx, pod); err != nil {
		t.Fatal(err)
	}
	signalled := func() bool { return strings.Contains(strings.Join(h.node.Calls(), " "), "signal") }
	stays := func(while string) {
		t.Helper()
		for range 20 {
			time.Sleep(5 * time.Millisecond)
			if signalled() {
				t.Fatalf("stopped while %s", while)
			}
		}
	}
	stays("no slice shows the pod as leaving")
	yes, no, port := true, false, int32(80)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: h.name, Labels: map[string]string{discoveryv1.LabelServiceName: h.name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{pod.Status.PodIP}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod.Name, UID: pod.UID},
			Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes},
		}},
	}
	if err := h.client.Create(ctx, slice); err != nil {
		t.Fatal(err)
	}
	stays("the proxy has confirmed nothing")
	h.confirm(slice.ResourceVersion)
	stays("a connection is busy")
	h.node.Connect(uid)
	h.until("stop signal", signalled)
	h.until("pod is gone", func() bool { return h.get(pod) == nil })

	var last *corev1.Pod
	for event := range watch.ResultChan() {
		if last = event.Object.(*corev1.Pod); event.Type == apiwatch.Deleted {
			break
		}
	}
	m := momentsOf(t, last)
	if m.EndpointRemoved == nil || m.Drained.Before(m.EndpointRemoved) || m.Stopped.Before(m.Drained) || m.Ready.Time.After(m.EndpointRemoved.Time) {
		t.Errorf("moments at the end: %+v", m)
	}
}

// A container that has failed its liveness probe is stopped only when its pod has
// left the slices and the proxies, which are asked, have said so.
func testCondemned(t *testing.T, h *harness) {
	ctx := context.Background()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: h.name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": h.name}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if err := h.client.Create(ctx, service); err != nil {
		t.Fatal(err)
	}
	h.start()
	pod := h.untilReady(h.pod("p", func(p *corev1.Pod) {
		p.Spec.Containers[0].LivenessProbe = &corev1.Probe{FailureThreshold: 1, ProbeHandler: corev1.ProbeHandler{
			TCPSocket: &corev1.TCPSocketAction{Host: "127.0.0.1", Port: intstr.FromInt32(1)},
		}}
	}))
	h.until("pod is unready", func() bool { return !ready(h.get(pod)) })
	no, port := false, int32(80)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: h.name, Labels: map[string]string{discoveryv1.LabelServiceName: h.name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{pod.Status.PodIP}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod.Name, UID: pod.UID},
			Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &no},
		}},
	}
	if err := h.client.Create(ctx, slice); err != nil {
		t.Fatal(err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.NamespaceNodeLease, Name: h.name}}
	h.until("proxies are asked", func() bool {
		err := h.client.Get(ctx, client.ObjectKeyFromObject(lease), lease)
		return err == nil && lease.Annotations[v1alpha1.AnnotationAwaitedVersion] == slice.ResourceVersion
	})
	signalled := func() bool { return strings.Contains(strings.Join(h.node.Calls(), " "), "signal") }
	if signalled() {
		t.Fatal("stopped before the proxies have confirmed")
	}
	h.confirm(slice.ResourceVersion)
	h.until("stop signal", signalled)
	h.until("another attempt", func() bool {
		p := h.get(pod)
		return p != nil && p.Status.ContainerStatuses[0].RestartCount == 1
	})
}

// confirm publishes, for every node with a live lease, that its proxy has applied a version.
func (h *harness) confirm(version string) {
	h.t.Helper()
	var nodes corev1.NodeList
	if err := h.client.List(context.Background(), &nodes); err != nil {
		h.t.Fatal(err)
	}
	for _, node := range nodes.Items {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.NamespaceNodeLease, Name: v1alpha1.ProxyLeaseName(node.Name),
			Labels: map[string]string{v1alpha1.LabelComponent: v1alpha1.ComponentProxy}, Annotations: map[string]string{v1alpha1.AnnotationAppliedVersion: version},
		}}
		err := h.client.Create(context.Background(), lease)
		if apierrors.IsAlreadyExists(err) {
			err = h.client.Patch(context.Background(), lease, client.RawPatch(types.MergePatchType,
				fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationAppliedVersion, version)))
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// A pod deleted without grace is killed at once.
func testForce(t *testing.T, h *harness) {
	h.node.AddImage("web", hollow.Program{IgnoresStop: true})
	h.start()
	pod := h.pod("p", func(p *corev1.Pod) { p.Spec.Containers[0].Ports = nil })
	h.untilReady(pod)
	if err := h.client.Delete(context.Background(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	h.until("nothing is left", func() bool {
		networks, _ := h.node.Network().List(context.Background())
		return len(h.node.Containers()) == 0 && len(networks) == 0
	})
}

func testCrash(t *testing.T, h *harness) {
	h.node.AddImage("web", hollow.Program{ExitAfter: 20 * time.Millisecond, ExitCode: 3})
	h.start()
	pod := h.pod("p", nil)
	h.until("back-off", func() bool { pod = h.get(pod); return waiting(pod) == "CrashLoopBackOff" })
	status := pod.Status.ContainerStatuses[0]
	if last := status.LastTerminationState.Terminated; status.RestartCount != 1 || last == nil || last.ExitCode != 3 || pod.Status.Phase != corev1.PodRunning {
		t.Errorf("status in back-off: %+v", pod.Status)
	}
	if !h.events.has("BackOff: Back-off restarting failed container web in pod") {
		t.Errorf("events: %q", h.events.list)
	}
}

// Hooks run around a container's life, and one that fails after the start ends it.
func testHooks(t *testing.T, h *harness) {
	release, stopped := make(chan struct{}), make(chan struct{})
	h.node.AddImage("web", hollow.Program{Exec: func(command []string) (int, []byte) {
		switch command[0] {
		case "setup":
			<-release
		case "teardown":
			close(stopped)
			return 1, []byte("secret")
		case "broken":
			return 3, []byte("secret")
		}
		return 0, nil
	}})
	h.start()
	hook := func(command string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{command}}}
	}
	pod := h.pod("p", func(p *corev1.Pod) {
		p.Annotations = map[string]string{v1alpha1.AnnotationDrain: v1alpha1.DrainOff} // no proxy is here to confirm
		p.Spec.Containers[0].Ports = nil
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: hook("setup"), PreStop: hook("teardown")}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "next", Image: "web", ImagePullPolicy: corev1.PullIfNotPresent})
	})
	broken := h.pod("broken", func(p *corev1.Pod) {
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: hook("broken")}
	})
	h.until("the first container", func() bool { return len(h.node.Containers()) > 0 })
	h.until("back-off of the broken one", func() bool { broken = h.get(broken); return waiting(broken) == "CrashLoopBackOff" })
	if !h.events.has("FailedPostStartHook: PostStartHook failed") || h.events.has("secret") {
		t.Errorf("events: %q", h.events.list)
	}
	h.until("the status", func() bool { pod = h.get(pod); return waiting(pod) == "ContainerCreating" })
	for _, c := range h.node.Containers() {
		if c.Name == "next" {
			t.Error("the next container was started before the hook had ended")
		}
	}
	close(release)
	h.untilReady(pod)
	if err := h.client.Delete(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	<-stopped
	h.until("pod is gone", func() bool { return h.get(pod) == nil })
	if !h.events.has("FailedPreStopHook: PreStopHook failed") || h.events.has("secret") {
		t.Errorf("events: %q", h.events.list)
	}
}

// A pod that is active for longer than it may be fails.
func testDeadline(t *testing.T, h *harness) {
	h.start()
	second := int64(1)
	pod := h.pod("p", func(p *corev1.Pod) {
		p.Spec.ActiveDeadlineSeconds = &second
		p.Annotations = map[string]string{v1alpha1.AnnotationDrain: v1alpha1.DrainOff} // no proxy is here to confirm
	})
	h.until("failed", func() bool { pod = h.get(pod); return pod.Status.Phase == corev1.PodFailed })
	if pod.Status.Reason != "DeadlineExceeded" || pod.Status.Message != "Pod was active on the node longer than the specified deadline" {
		t.Errorf("status %+v", pod.Status)
	}
	if !h.events.has("DeadlineExceeded: Pod was active on the node longer than the specified deadline") {
		t.Errorf("events: %q", h.events.list)
	}
	for _, c := range h.node.Containers() {
		if c.Phase != agent.ContainerExited {
			t.Errorf("%+v of a pod that has failed", c)
		}
	}
}

// A container that cannot be started has had its attempt all the same.
func testUnstartable(t *testing.T, h *harness) {
	h.node.AddImage("web", hollow.Program{StartError: errors.New("exec: \"/nope\": no such file or directory")})
	h.start()
	pod := h.pod("p", nil)
	h.until("back-off", func() bool { pod = h.get(pod); return waiting(pod) == "CrashLoopBackOff" })
	status := pod.Status.ContainerStatuses[0]
	last := status.LastTerminationState.Terminated
	if status.RestartCount != 1 || last == nil || last.Reason != "StartError" || last.ExitCode != 128 || last.Message != `exec: "/nope": no such file or directory` {
		t.Errorf("status in back-off: %+v", pod.Status)
	}
	if attempts := momentsOf(t, pod).Attempts; attempts != 2 {
		t.Errorf("%d attempts, want 2: %q", attempts, h.node.Calls())
	}
	for _, event := range []string{`Failed: Error: exec: "/nope": no such file or directory`, "BackOff: Back-off restarting failed container web in pod"} {
		if !h.events.has(event) {
			t.Errorf("no event %q in %q", event, h.events.list)
		}
	}
	if err := h.client.Delete(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	h.until("pod is gone", func() bool { return h.get(pod) == nil })
}

func momentsOf(t *testing.T, pod *corev1.Pod) v1alpha1.PodMoments {
	t.Helper()
	var m v1alpha1.PodMoments
	if err := json.Unmarshal([]byte(pod.Annotations[v1alpha1.AnnotationMoments]), &m); err != nil {
		t.Fatalf("moments %q: %v", pod.Annotations[v1alpha1.AnnotationMoments], err)
	}
	return m
}

func testPull(t *testing.T, h *harness) {
	h.node.AddRemote("there", hollow.Program{Listens: []uint16{80}}, nil)
	h.start()
	there := h.pod("there", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "there" })
	absent := h.pod("absent", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "absent" })
	never := h.pod("never", func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "absent", corev1.PullNever
	})
	invalid := h.pod("invalid", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "In:va:lid" })
	h.untilReady(there)
	h.until("ErrImagePull", func() bool { return waiting(h.get(absent)) == "ErrImagePull" })
	h.until("ErrImageNeverPull", func() bool { return waiting(h.get(never)) == "ErrImageNeverPull" })
	h.until("InvalidImageName", func() bool { return waiting(h.get(invalid)) == "InvalidImageName" })
	h.until("ImagePullBackOff", func() bool { return waiting(h.get(absent)) == "ImagePullBackOff" })
	for _, event := range []string{
		`Pulling: Pulling image "there"`, `Pulled: Successfully pulled image "there" in `, `Failed: Failed to pull image "absent": reading manifest of absent: manifest unknown`,
		"Failed: Error: ErrImagePull", `BackOff: Back-off pulling image "absent"`, "Failed: Error: ImagePullBackOff",
	} {
		if !h.events.has(event) {
			t.Errorf("no event %q in %q", event, h.events.list)
		}
	}
}

// What a pod refers to may come after it.
func testConfig(t *testing.T, h *harness) {
	h.start()
	pod := h.pod("p", func(p *corev1.Pod) {
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: h.name}}}}
	})
	h.until("CreateContainerConfigError", func() bool { return waiting(h.get(pod)) == "CreateContainerConfigError" })
	if message := h.get(pod).Status.ContainerStatuses[0].State.Waiting; message != nil && message.Message != `configmap "node-config" not found` {
		t.Errorf("message: %q", message.Message)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: h.name}, Data: map[string]string{"A": "1"}}
	if err := h.client.Create(context.Background(), cm); err != nil {
		t.Fatal(err)
	}
	h.untilReady(pod)
}

func testLogs(t *testing.T, h *harness) {
	h.start()
	pod := h.untilReady(h.pod("p", nil))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := httptest.NewServer(h.agent.Handler(ctx))
	defer server.Close()
	get := func(query string) (int, string) {
		t.Helper()
		response, err := http.Get(server.URL + "/containerLogs/default/" + pod.Name + "/" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	path := h.node.Containers()[0].LogPath
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, "2026-01-01T00:00:00.000000001Z stdout F one\n2026-01-01T00:00:01.5Z stderr P tw\n2026-01-01T00:00:01.6Z stderr F o\n")
	for _, test := range []struct {
		query, want string
		code        int
	}{
		{"web", "one\ntwo\n", 200},
		{"web?tailLines=1", "two\n", 200},
		{"web?limitBytes=5", "one\nt", 200},
		{"web?timestamps=true&tailLines=1", "2026-01-01T00:00:01.5Z two\n", 200},
		{"web?sinceTime=2026-01-01T00:00:01Z", "two\n", 200},
		{"web?tailLines=x", "tailLines=\"x\" is not a number of at least 0\n", 400},
		{"web?previous=true", "previous terminated container \"web\" in pod \"" + pod.Name + "\" not found\n", 400},
		{"other", "container \"other\" in pod \"" + pod.Name + "\" is not in the pod\n", 400},
	} {
		if code, body := get(test.query); code != test.code || body != test.want {
			t.Errorf("%s: %d %q, want %d %q", test.query, code, body, test.code, test.want)
		}
	}
	follow := make(chan string)
	go func() { _, body := get("web?follow=true&tailLines=0"); follow <- body }()
	response, err := http.Get(server.URL + "/containerLogs/default/" + pod.Name + "/web?follow=true&tailLines=0")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "2026-01-01T00:00:02Z stdout F three\n")
	first := make([]byte, len("three\n"))
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "three\n" {
		t.Fatalf("followed: %q, %v", first, err)
	}
	h.node.End(agent.ContainerID(string(pod.UID), "web", 0), 0)
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
	response.Body.Close()
	if body := <-follow; body != "three\n" && body != "" { // it may have come after the line
		t.Errorf("followed: %q", body)
	}
	h.until("it is restarted", func() bool { return h.get(pod).Status.ContainerStatuses[0].RestartCount == 1 })
	if code, body := get("web?previous=true&tailLines=1"); code != 200 || body != "three\n" {
		t.Errorf("previous: %d %q", code, body)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func testNode(t *testing.T, h *harness) {
	h.start()
	ctx := context.Background()
	node := &corev1.Node{}
	h.until("node is ready", func() bool {
		err := h.client.Get(ctx, client.ObjectKey{Name: h.name}, node)
		return err == nil && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	})
	if node.Labels[corev1.LabelHostname] != h.name || node.Spec.PodCIDR != "10.42.0.0/24" || node.Status.Allocatable.Pods().Value() != 250 ||
		node.Status.Allocatable.Memory().Value() == 0 || node.Status.NodeInfo.KernelVersion == "" || len(node.Status.Images) != 1 {
		t.Errorf("node: %+v", node)
	}
	lease := &coordinationv1.Lease{}
	h.until("lease", func() bool {
		err := h.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.NamespaceNodeLease, Name: h.name}, lease)
		return err == nil && lease.Spec.RenewTime != nil && *lease.Spec.HolderIdentity == h.name
	})
}
