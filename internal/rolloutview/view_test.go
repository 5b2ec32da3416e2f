package rolloutview

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestViews runs the scripts: the script plays the API, and shows what people see.
func TestViews(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &viewWorld{sets: map[string]int64{}, pods: map[string]corev1.Pod{}, records: map[int64]v1alpha1.RolloutRecord{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			out, err := w.run(&arguments{d})
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// viewWorld is what a script has said of a Deployment, web.
type viewWorld struct {
	deployment appsv1.Deployment
	sets       map[string]int64
	pods       map[string]corev1.Pod
	records    map[int64]v1alpha1.RolloutRecord
	log        Log
}

type arguments struct{ *datadriven.TestData }

func (a *arguments) text(name, otherwise string) string {
	for _, arg := range a.CmdArgs {
		if arg.Key == name && len(arg.Vals) > 0 {
			return strings.Join(arg.Vals, ",")
		}
	}
	return otherwise
}

func (a *arguments) number(name string, otherwise int64) int64 {
	n, err := strconv.ParseInt(a.text(name, ""), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// moment reads a time since the epoch, nil if the argument is not there.
func (a *arguments) moment(name string) *metav1.MicroTime {
	d, err := time.ParseDuration(a.text(name, ""))
	if err != nil {
		return nil
	}
	return &metav1.MicroTime{Time: epoch.Add(d)}
}

func (w *viewWorld) run(a *arguments) (string, error) {
	name := ""
	if len(a.CmdArgs) > 0 && len(a.CmdArgs[0].Vals) == 0 {
		name = a.CmdArgs[0].Key
	}
	now := epoch
	if at := a.moment("at"); at != nil {
		now = at.Time
	}
	revision := a.number("revision", Current(&w.deployment))
	lines := func(list []string) (string, error) { return strings.Join(list, "\n") + "\n", nil }
	switch a.Cmd {
	case "deployment":
		w.setDeployment(a)
	case "set":
		w.sets[name] = revision
	case "pod":
		w.pods[name] = podFrom(name, a)
	case "pods":
		w.manyPods(a)
	case "gone":
		delete(w.pods, name)
	case "record":
		return "", w.setRecord(a)
	case "screen":
		r := Of(w.facts(), revision, now)
		return w.screen(&r, a, now), nil
	case "log":
		r := Of(w.facts(), revision, now)
		return lines(w.log.Next(&r, now))
	case "summary":
		return lines(Summary(Record(w.facts(), revision), now))
	case "describe":
		return lines(Describe(Record(w.facts(), revision), now))
	case "history":
		return lines(History(w.facts(), now))
	default:
		return "", fmt.Errorf("no such command: %s", a.Cmd)
	}
	return "", nil
}

func (w *viewWorld) setDeployment(a *arguments) {
	w.deployment = appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "web", Generation: 2, Annotations: map[string]string{revisionAnnotation: a.text("revision", "1")}},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(a.number("replicas", 1))), MinReadySeconds: int32(a.number("minReady", 0)), Paused: a.HasArg("paused"),
		},
		Status: appsv1.DeploymentStatus{ObservedGeneration: a.number("observed", 2)},
	}
	if reason := a.text("progressing", ""); reason != "" {
		w.deployment.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Reason: reason, Message: "in its words"}}
	}
}

func (w *viewWorld) setRecord(a *arguments) error {
	record := v1alpha1.RolloutRecord{}
	if err := yaml.UnmarshalStrict([]byte(a.Input), &record); err != nil {
		return err
	}
	record.Spec.Target = v1alpha1.RolloutTarget{Kind: "Deployment", Name: "web", UID: "web"}
	if record.Spec.StartedAt.IsZero() {
		record.Spec.StartedAt = metav1.NewMicroTime(epoch)
	}
	w.records[record.Spec.Revision] = record
	return nil
}

// podFrom reads NAME set=SET [node=N] [created= scheduled= image= started= ready=
// stop= unrouted= drained= stopped=TIME] [waiting=REASON message=TEXT]
// [restarts=N] [unschedulable=TEXT].
func podFrom(name string, a *arguments) corev1.Pod {
	set := a.text("set", "web-2")
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: set, UID: types.UID(set), Controller: ptr.To(true)}}}}
	pod.Spec.NodeName = a.text("node", "")
	if at := a.moment("created"); at != nil {
		pod.CreationTimestamp = metav1.NewTime(at.Truncate(time.Second))
	}
	condition := func(kind corev1.PodConditionType, at *metav1.MicroTime) {
		if at != nil {
			pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at.Truncate(time.Second))})
		}
	}
	condition(corev1.PodScheduled, a.moment("scheduled"))
	condition(corev1.PodReady, a.moment("ready"))
	if text := a.text("unschedulable", ""); text != "" {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: text})
	}
	if at := a.moment("stop"); at != nil {
		end := metav1.NewTime(at.Add(30 * time.Second))
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &end, ptr.To(int64(30))
	}
	moments, err := json.Marshal(v1alpha1.PodMoments{
		ImageReady: a.moment("image"), Started: a.moment("started"), Ready: a.moment("ready"),
		EndpointRemoved: a.moment("unrouted"), Drained: a.moment("drained"), Stopped: a.moment("stopped"),
	})
	if err != nil {
		panic(err)
	}
	pod.Annotations = map[string]string{v1alpha1.AnnotationMoments: string(moments)}
	container := corev1.ContainerStatus{Name: "web", RestartCount: int32(a.number("restarts", 0))}
	if reason := a.text("waiting", ""); reason != "" {
		container.State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: a.text("message", "")}
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{container}
	return pod
}

// manyPods makes count=N pods like the one that its other arguments describe.
func (w *viewWorld) manyPods(a *arguments) {
	for range a.number("count", 1) {
		name := fmt.Sprintf("%s-%03d", a.text("set", "web-2"), len(w.pods))
		w.pods[name] = podFrom(name, a)
	}
}

func (w *viewWorld) facts() Facts {
	owner := metav1.OwnerReference{Kind: "Deployment", Name: "web", UID: "web", Controller: ptr.To(true)}
	f := Facts{Deployment: &w.deployment, Sets: []appsv1.ReplicaSet{{ObjectMeta: metav1.ObjectMeta{Name: "other", UID: "other", Annotations: map[string]string{revisionAnnotation: "9"}}}}}
	for _, name := range slices.Sorted(maps.Keys(w.sets)) {
		f.Sets = append(f.Sets, appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(name), OwnerReferences: []metav1.OwnerReference{owner},
			Annotations: map[string]string{revisionAnnotation: strconv.FormatInt(w.sets[name], 10), changeCause: "given"},
		}})
	}
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		f.Pods = append(f.Pods, w.pods[name])
	}
	for _, revision := range slices.Sorted(maps.Keys(w.records)) {
		f.Records = append(f.Records, w.records[revision])
	}
	return f
}

func (w *viewWorld) screen(r *Rollout, a *arguments, now time.Time) string {
	width := int(a.number("width", 100))
	var b strings.Builder
	for _, line := range Screen(r, width, int(a.number("height", 30)), now) {
		fmt.Fprintf(&b, "|%s\n", strings.ReplaceAll(line.Render(width, a.HasArg("colour")), "\x1b", "␛"))
	}
	return b.String()
}

// Whatever the size of the terminal, the view keeps to it.
func FuzzScreenSize(f *testing.F) {
	f.Add(80, 24, 3, "web")
	f.Add(1, 1, 100, "a\x1b[2J")
	f.Fuzz(func(t *testing.T, width, height, pods int, name string) {
		width, height, pods = width&0xff, height&0x3f, pods&0xff
		r := Rollout{Deployment: "deployment/" + name, Revision: 2, Cause: name, Message: name, Wanted: pods, Left: -1, Record: &v1alpha1.RolloutRecord{}}
		for i := range pods {
			r.Pods = append(r.Pods, Pod{Name: name, There: true, New: i%2 == 0, State: State(i % 8), Note: name})
		}
		lines := Screen(&r, width, height, epoch)
		if len(lines) > height {
			t.Errorf("%d lines, height is %d", len(lines), height)
		}
		for _, line := range lines {
			if text := line.Render(width, false); utf8.RuneCountInString(text) > width || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q is wider than %d, or steers the terminal", text, width)
			}
		}
	})
}

// Whatever a pod's annotation holds, the pod can be shown.
func FuzzMoments(f *testing.F) {
	f.Add("")
	f.Add(`{"started":"2026-01-01T12:00:00.000001Z","note":"a\u001b[2J"}`)
	f.Add(`{"started":null,"stopped":"0000-01-01T12:00:00.000001Z"`)
	f.Fuzz(func(t *testing.T, text string) {
		pod := podFrom("web-2-a", &arguments{&datadriven.TestData{}})
		pod.Annotations[v1alpha1.AnnotationMoments] = text
		w := viewWorld{sets: map[string]int64{"web-2": 2}, pods: map[string]corev1.Pod{"web-2-a": pod}}
		w.setDeployment(&arguments{&datadriven.TestData{CmdArgs: []datadriven.CmdArg{{Key: "revision", Vals: []string{"2"}}}}})
		r := Of(w.facts(), 2, epoch)
		if len(r.Pods) != 1 {
			t.Fatalf("pods: %+v", r.Pods)
		}
		for _, line := range Screen(&r, 80, 24, epoch) {
			if shown := line.Render(80, false); strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q steers the terminal", shown)
			}
		}
	})
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "-", 0: "0s", 12400 * time.Microsecond: "12ms", 1234 * time.Millisecond: "1.2s", 34600 * time.Millisecond: "35s",
		303 * time.Second: "5m3s", 2*time.Hour + 90*time.Second: "2h2m",
	} {
		if got := span(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 12934: "12,934", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
