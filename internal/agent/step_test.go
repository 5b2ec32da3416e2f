package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
)

// TestStep runs the scenario scripts, which are the specification of Step. The
// script plays the node and the API: it says how acts end and what happens.
func TestStep(t *testing.T) {
	datadriven.Walk(t, "testdata/step", func(t *testing.T, path string) {
		w := newStepWorld()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			out, err := w.run(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

// stepWorld is one pod, its node and its clock.
type stepWorld struct {
	now      time.Time
	pod      *corev1.Pod
	template map[string]string // the annotations that the pod was made with
	seen     Observed
}

var stepEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newStepWorld() *stepWorld { return &stepWorld{now: stepEpoch} }

func (w *stepWorld) run(d *datadriven.TestData) (string, error) {
	arg := func(name, otherwise string) string {
		for _, a := range d.CmdArgs {
			if a.Key == name && len(a.Vals) > 0 {
				return strings.Join(a.Vals, ",")
			}
		}
		return otherwise
	}
	flag := func(name string) bool { return d.HasArg(name) }
	name := ""
	if len(d.CmdArgs) > 0 && len(d.CmdArgs[0].Vals) == 0 {
		name = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "pod":
		return "", w.newPod(d.Input)
	case "debug": // an ephemeral container
		e := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: arg("image", "busybox")}}
		w.pod.Spec.EphemeralContainers = append(w.pod.Spec.EphemeralContainers, e)
		return "", nil
	case "step":
		return w.step(), nil
	case "advance":
		by, err := time.ParseDuration(name)
		w.now = w.now.Add(by)
		return "", err
	case "network":
		w.finish(Act{Kind: ActSetupNetwork})
		w.seen.Network, w.seen.NetworkStale = &PodNetwork{PodUID: "uid", NetNS: "/ns", IP: netip.MustParseAddr("10.42.0.2")}, false
	case "volumes":
		w.finish(Act{Kind: ActPrepareVolumes})
		w.seen.Volumes, w.seen.VolumesAt = true, w.seen.VolumeChanges
		if due := arg("due", ""); due != "" {
			in, err := time.ParseDuration(due)
			w.seen.VolumesDue = w.now.Add(in)
			return "", err
		}
	case "changed": // a ConfigMap, say
		w.seen.VolumeChanges++
	case "image":
		attempt, err := strconv.Atoi(arg("attempt", "0"))
		w.finish(Act{Kind: ActEnsureImage, Container: name})
		w.seen.Images[name] = FoundImage{attempt, &Image{ID: "sha256:1"}}
		return "", err
	case "rechecked":
		w.finish(Act{Kind: ActRecheckImage, Container: name})
		w.seen.Recheck(name, flag("changed"), w.now)
	case "started":
		attempt, err := strconv.Atoi(arg("attempt", "0"))
		w.finish(Act{Kind: ActStart, Container: name})
		w.seen.Record(Container{ID: ContainerID("uid", name, attempt), PodUID: "uid", Name: name, Attempt: attempt, Phase: ContainerRunning, StartedAt: w.now, ImageID: "sha256:1", Granted: w.granted(name)})
		return "", err
	case "resize":
		return "", w.resize(name, d.Input, arg)
	case "resized":
		w.finish(Act{Kind: ActResize})
		last := w.last(name)
		granted := w.seen.Allotment.Containers[name]
		last.Granted = &granted
	case "exited":
		return "", w.exit(name, arg("code", "0"), flag("oom"))
	case "fail":
		attempt, err := strconv.Atoi(arg("attempt", "0"))
		act := Act{Kind: ActKind(name), Container: arg("container", ""), Attempt: attempt}
		if act.Kind == ActStart {
			act.ID = ContainerID("uid", act.Container, attempt)
		}
		delete(w.seen.InFlight, act.Key())
		w.seen.Fail(act, arg("reason", ReasonRunError), arg("message", "it failed"), w.now)
		return "", err
	case "look":
		w.finish(Act{Kind: ActLook})
		look := Look{At: w.now, Sockets: parseSockets(arg)}
		w.seen.Looks = append(w.seen.Looks[max(0, len(w.seen.Looks)-1):len(w.seen.Looks):len(w.seen.Looks)], look)
	case "probe":
		return w.probe(name, ProbeKind(arg("kind", "Readiness")), arg("fails", ""))
	case "delete":
		grace, err := strconv.Atoi(arg("grace", "30"))
		seconds := int64(grace)
		until := metav1.NewTime(w.now.Add(time.Duration(grace) * time.Second).Truncate(time.Second))
		w.pod.DeletionTimestamp, w.pod.DeletionGracePeriodSeconds, w.seen.DeletionSeen = &until, &seconds, w.now
		return "", err
	case "routes":
		return "", w.routes(d.Input)
	case "awaited":
		w.finish(Act{Kind: ActAwait})
		version, err := strconv.ParseUint(name, 10, 64)
		w.seen.Awaited = version
		return "", err
	case "postStart":
		id := w.last(name).ID
		w.finish(Act{Kind: ActPostStart, ID: id})
		w.seen.PostStarts[id] = PostStart{At: w.now, Failed: arg("fails", "") != "", Message: arg("fails", "")}
	case "signalled", "hooked", "killed":
		return "", w.stopped(d.Cmd, name)
	case "removed":
		for _, c := range w.seen.Containers {
			w.finish(Act{Kind: ActRemove, ID: c.ID})
			w.seen.Removed[c.ID] = true
		}
	case "tornDown":
		w.finish(Act{Kind: ActTeardownNetwork})
		w.seen.Network = nil
	case "emptied":
		w.finish(Act{Kind: ActRemoveVolumes})
		w.seen.VolumesGone = true
	case "cleaned":
		w.finish(Act{Kind: ActCleanUp})
		w.seen.CleanedUp = true
	case "deleted":
		w.finish(Act{Kind: ActDeletePod})
		w.seen.Deleted = true
	case "gone":
		w.seen.Gone = true
	case "verdict":
		grace, err := time.ParseDuration(arg("grace", "0s"))
		w.seen.Verdict = &Verdict{Reason: name, Message: arg("message", ""), Evicted: flag("evicted"), Grace: grace}
		return "", err
	case "restart", "reboot":
		for i := range w.seen.Containers {
			if c := &w.seen.Containers[i]; d.Cmd == "reboot" {
				if c.EarlierBoot = true; c.Phase == ContainerRunning {
					c.Phase, c.ExitCode, c.FinishedAt = ContainerExited, 255, w.now
				}
			}
		}
		onRecord := slices.DeleteFunc(w.seen.Containers, func(c Container) bool { return c.StartError != "" })
		w.seen = Recall(w.now, w.pod, onRecord, w.seen.Network)
		w.seen.Node = stepNode
	default:
		return "", fmt.Errorf("no such command: %s", d.Cmd)
	}
	return "", nil
}

func (w *stepWorld) granted(name string) *corev1.ResourceRequirements {
	granted := w.seen.Allotment.Containers[name]
	return &granted
}

// resize changes what a container asks for. The node allots it, or refuses it for a reason.
func (w *stepWorld) resize(name, resources string, arg func(name, otherwise string) string) error {
	w.pod = w.pod.DeepCopy()
	c := containerSpecOf(w.pod, name)
	if err := yaml.UnmarshalStrict([]byte(resources), &c.Resources); err != nil {
		return err
	}
	w.pod.Generation++
	if reason := arg("refused", ""); reason != "" {
		w.seen.Allotment.Refused = &Refusal{reason, arg("message", "")}
		return nil
	}
	w.seen.Allotment = Allotment{Containers: wishes(w.pod), At: w.now, Generation: w.pod.Generation}
	return nil
}

var stepNode = NodeAddress{Name: "node", IP: netip.MustParseAddr("192.0.2.1")}

func (w *stepWorld) newPod(spec string) error {
	w.now = stepEpoch
	w.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "uid", Generation: 1}}
	if err := yaml.UnmarshalStrict([]byte(spec), w.pod); err != nil {
		return err
	}
	w.template = w.pod.Annotations
	if w.pod.Spec.RestartPolicy == "" {
		w.pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	w.seen = Recall(w.now, w.pod, nil, nil)
	w.seen.Node = stepNode
	return nil
}

// step decides, notes the acts as in flight and, if there is news, the status and
// the moments as written.
func (w *stepWorld) step() string {
	before, old := w.pod.Status.DeepCopy(), earliest(momentsOf(w.pod), w.seen.Memory.Moments)
	d := Step(w.now, w.pod, w.seen)
	w.seen.Memory = d.Memory
	var b strings.Builder
	for _, act := range d.Acts {
		w.seen.InFlight[act.Key()] = true
		fmt.Fprintln(&b, "act   ", act)
	}
	for _, e := range d.Events {
		fmt.Fprintf(&b, "event  %s %s: %s\n", e.Type, e.Reason, e.Message)
	}
	if !d.WakeAt.IsZero() {
		fmt.Fprintf(&b, "wake   +%s\n", d.WakeAt.Sub(w.now))
	}
	if d.Why != "" {
		fmt.Fprintln(&b, "why   ", d.Why)
	}
	if d.Done {
		fmt.Fprintln(&b, "done")
	}
	fmt.Fprint(&b, describeStatus(before, &d.Status))
	fmt.Fprint(&b, describeMoments(&old, &d.Memory.Moments))
	if told := (&report{d.Status, d.Memory.Moments}); told.news(reported(w.pod)) {
		w.pod = w.pod.DeepCopy()
		w.pod.Status = d.Status
		w.pod.Annotations = maps.Clone(w.template)
		metav1.SetMetaDataAnnotation(&w.pod.ObjectMeta, v1alpha1.AnnotationMoments, told.annotation())
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

// describeMoments prints what has changed in a pod's moments, as times since the
// script began.
func describeMoments(before, now *v1alpha1.PodMoments) string {
	var b strings.Builder
	for _, m := range []struct {
		name        string
		before, now *metav1.MicroTime
	}{
		{"imageReady", before.ImageReady, now.ImageReady}, {"started", before.Started, now.Started}, {"ready", before.Ready, now.Ready},
		{"endpointRemoved", before.EndpointRemoved, now.EndpointRemoved}, {"drained", before.Drained, now.Drained}, {"stopped", before.Stopped, now.Stopped},
	} {
		if m.now != nil && !m.now.Equal(m.before) {
			fmt.Fprintf(&b, "moment %s +%s\n", m.name, m.now.Sub(stepEpoch))
		}
	}
	if now.Note != before.Note {
		fmt.Fprintln(&b, "moment note:", now.Note)
	}
	if now.Attempts != before.Attempts {
		fmt.Fprintln(&b, "moment attempts:", now.Attempts)
	}
	return b.String()
}

// describeStatus prints what has changed in a status.
func describeStatus(before, now *corev1.PodStatus) string {
	var b strings.Builder
	if before.Phase != now.Phase || readiness(before) != readiness(now) || before.PodIP != now.PodIP {
		urgently := ""
		if urgent(before, now) {
			urgently = " (at once)"
		}
		fmt.Fprintf(&b, "status phase=%s ready=%s ip=%s%s\n", now.Phase, readiness(now), now.PodIP, urgently)
	}
	if before.Reason != now.Reason {
		fmt.Fprintf(&b, "status reason=%s (%s)\n", now.Reason, now.Message)
	}
	for _, c := range now.Conditions {
		if c.Type == corev1.DisruptionTarget && !slices.ContainsFunc(before.Conditions, func(old corev1.PodCondition) bool { return old.Type == c.Type }) {
			fmt.Fprintf(&b, "status %s=%s %s\n", c.Type, c.Status, c.Reason)
		}
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting} {
		old, c := condition.Find(before, kind), condition.Find(now, kind)
		switch {
		case c != nil && (old == nil || old.Status != c.Status || old.Reason != c.Reason || old.Message != c.Message):
			fmt.Fprintln(&b, strings.TrimSuffix(strings.TrimSpace(fmt.Sprintf("status %s=%s %s (%s)", kind, c.Status, c.Reason, c.Message)), "  ()"))
		case c == nil && old != nil:
			fmt.Fprintf(&b, "status no %s\n", kind)
		}
	}
	line := func(c corev1.ContainerStatus) string {
		text := fmt.Sprintf("%s ready=%v started=%v restarts=%d %s", c.Name, c.Ready, c.Started != nil && *c.Started, c.RestartCount, stateText(c.State))
		if r := c.Resources; r != nil {
			text += " " + resourcesText(*r)
			if held, allocated := resourcesText(corev1.ResourceRequirements{Requests: r.Requests}), resourcesText(corev1.ResourceRequirements{Requests: c.AllocatedResources}); held != allocated {
				text += " allocated=" + allocated
			}
		}
		if last := stateText(c.LastTerminationState); last != "" {
			text += " last: " + last
		}
		return text
	}
	old := map[string]string{}
	for _, c := range slices.Concat(before.InitContainerStatuses, before.ContainerStatuses, before.EphemeralContainerStatuses) {
		old[c.Name] = line(c)
	}
	for _, c := range slices.Concat(now.InitContainerStatuses, now.ContainerStatuses, now.EphemeralContainerStatuses) {
		if text := line(c); text != old[c.Name] {
			fmt.Fprintln(&b, "status", text)
		}
	}
	return b.String()
}

func resourcesText(r corev1.ResourceRequirements) string {
	return fmt.Sprintf("cpu=%s..%s memory=%s..%s", r.Requests.Cpu(), r.Limits.Cpu(), r.Requests.Memory(), r.Limits.Memory())
}

func stateText(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil && s.Waiting.Message != "":
		return fmt.Sprintf("%s (%s)", s.Waiting.Reason, s.Waiting.Message)
	case s.Waiting != nil:
		return s.Waiting.Reason
	case s.Running != nil:
		return "Running"
	case s.Terminated != nil:
		return fmt.Sprintf("%s(%d)", s.Terminated.Reason, s.Terminated.ExitCode)
	}
	return ""
}

func (w *stepWorld) finish(act Act) {
	delete(w.seen.InFlight, act.Key())
	delete(w.seen.Failures, act.Key())
}

func (w *stepWorld) last(name string) *Container {
	var last *Container
	for i := range w.seen.Containers {
		if c := &w.seen.Containers[i]; c.Name == name && (last == nil || c.Attempt > last.Attempt) {
			last = c
		}
	}
	return last
}

func (w *stepWorld) exit(name, code string, oom bool) error {
	c := *w.last(name)
	number, err := strconv.Atoi(code)
	c.Phase, c.ExitCode, c.OOMKilled, c.FinishedAt = ContainerExited, number, oom, w.now
	w.seen.Record(c)
	return err
}

func (w *stepWorld) probe(name string, kind ProbeKind, failure string) (string, error) {
	c := w.last(name)
	w.finish(Act{Kind: ActProbe, ID: c.ID, Probe: kind})
	probe := probeOf(containerSpecOf(w.pod, name), kind)
	if probe == nil {
		return "", fmt.Errorf("%s has no %s probe", name, kind)
	}
	key := ProbeKey{c.ID, kind}
	next, tell := w.seen.Probes[key].Next(probe, failure == "", failure, c.StartedAt, w.now, 0)
	w.seen.Probes[key] = next
	if tell {
		return "told\n", nil
	}
	return "", nil
}

func (w *stepWorld) stopped(what, name string) error {
	id := w.last(name).ID
	p := w.seen.Stops[id]
	switch what {
	case "hooked":
		w.finish(Act{Kind: ActPreStop, ID: id})
		p.PreStopDone = true
	case "signalled":
		w.finish(Act{Kind: ActStop, ID: id})
		p.SignalledAt = w.now
	case "killed":
		w.finish(Act{Kind: ActKill, ID: id})
		p.KilledAt = w.now
	}
	w.seen.Stops[id] = p
	return nil
}

// parseSockets reads listen=80, idle=N, busy=N, closing=N.
func parseSockets(arg func(name, otherwise string) string) []Socket {
	count := func(name string) int {
		n, _ := strconv.Atoi(arg(name, "0"))
		return n
	}
	var sockets []Socket
	if port := count("listen"); port > 0 {
		sockets = append(sockets, Socket{State: SocketListen, LocalPort: uint16(port), LocalAddr: netip.IPv4Unspecified()})
	}
	local := Socket{LocalPort: 80, State: SocketEstablished, BytesReceived: 10, BytesSent: 10, LastReceived: 2 * time.Second, LastSent: time.Second}
	for range count("idle") {
		sockets = append(sockets, local)
	}
	for range count("busy") {
		busy := local
		busy.LastReceived = 10 * time.Millisecond
		sockets = append(sockets, busy)
	}
	for range count("closing") {
		sockets = append(sockets, Socket{LocalPort: 80, State: SocketClosing, SendQueue: 1})
	}
	return sockets
}

// routes reads lines "service NAME", "slice SERVICE VERSION [terminating]
// [serving]", "others VERSION" and "proxy NODE VERSION".
func (w *stepWorld) routes(text string) error {
	w.seen.Routes = Routes{}
	r := &w.seen.Routes
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		version := func() uint64 {
			v, _ := strconv.ParseUint(fields[min(2, len(fields)-1)], 10, 64)
			return v
		}
		switch fields[0] {
		case "service":
			r.Services = append(r.Services, fields[1])
		case "slice":
			r.Slices = append(r.Slices, Slice{
				Service: fields[1], Version: version(),
				Terminating: strings.Contains(line, "terminating"), Serving: strings.Contains(line, "serving"),
			})
		case "others":
			r.Others = version()
		case "proxy":
			r.Proxies = append(r.Proxies, Proxy{Node: fields[1], Applied: version()})
		default:
			return fmt.Errorf("no such route: %s", line)
		}
	}
	return nil
}
