package rolloutrecord

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// TestScripts plays the scripts in testdata/records: objects change at given
// times of a day, and a decision prints what is written about them.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/records", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return w.do(t, d) })
	})
}

var key = types.NamespacedName{Namespace: "default", Name: "httpd"}

// world is a Deployment with all that belongs to it.
type world struct {
	now        time.Time
	memory     *memory
	deployment *appsv1.Deployment
	sets       []*appsv1.ReplicaSet
	pods       []*corev1.Pod
	services   []*corev1.Service
	records    []*v1alpha1.RolloutRecord
	namespace  v1alpha1.FailurePolicy // its on-failure annotation
	version    int
}

func newWorld(t *testing.T) *world {
	w := &world{now: clock(t, "10:00:00")}
	w.memory = newMemory(func() time.Time { return w.now })
	w.deployment = &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace, UID: "deployment", Annotations: map[string]string{}},
		Spec:       appsv1.DeploymentSpec{ProgressDeadlineSeconds: ptr.To[int32](600)},
	}
	return w
}

func clock(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse("15:04:05.999999", s)
	if err != nil {
		t.Fatal(err)
	}
	return time.Date(2026, 5, 4, at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), time.UTC)
}

func (w *world) do(t *testing.T, d *datadriven.TestData) string {
	args := map[string]string{}
	name := ""
	for i, arg := range d.CmdArgs {
		if i == 0 && len(arg.Vals) == 0 {
			name = arg.Key
			continue
		}
		args[arg.Key] = strings.Join(arg.Vals, ",")
	}
	text := strings.TrimSpace(d.Input)
	switch d.Cmd {
	case "at":
		w.now = clock(t, name)
	case "deployment":
		w.changeDeployment(t, args)
	case "annotate":
		if w.deployment.Annotations = with(w.deployment.Annotations, name, text); text == "" {
			delete(w.deployment.Annotations, name)
		}
	case "namespace":
		w.namespace = v1alpha1.FailurePolicy(args["on-failure"])
	case "service":
		w.services = append(w.services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": args["app"]}}})
	case "set":
		w.changeSet(t, name, args, text)
	case "pod":
		w.changePod(t, name, args, text)
	case "delete-record":
		for i, r := range w.records {
			if r.Name == name {
				w.records = append(w.records[:i:i], w.records[i+1:]...)
				break
			}
		}
	case "restart":
		w.memory = newMemory(func() time.Time { return w.now })
		for _, rs := range w.sets {
			w.memory.seeSet(key, nil, rs, false)
		}
		for _, pod := range w.pods {
			w.memory.seePod(pod)
		}
	case "decide":
		return w.decide(t)
	default:
		t.Fatalf("%s: no command %q", d.Pos, d.Cmd)
	}
	return ""
}

func with(m map[string]string, key, value string) map[string]string {
	out := map[string]string{key: value}
	for k, v := range m {
		if k != key {
			out[k] = v
		}
	}
	return out
}

func number(t *testing.T, s string) int32 {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return int32(n)
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "httpd"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "httpd", Image: image}}},
	}
}

func (w *world) changeDeployment(t *testing.T, args map[string]string) {
	d := w.deployment.DeepCopy()
	w.deployment = d
	for k, v := range args {
		switch k {
		case "replicas":
			d.Spec.Replicas = ptr.To(number(t, v))
		case "image":
			d.Spec.Template = template(v)
		case "minready":
			d.Spec.MinReadySeconds = number(t, v)
		case "paused":
			d.Spec.Paused = v == "true"
		case "strategy":
			d.Spec.Strategy.Type = appsv1.DeploymentStrategyType(v)
		case "deadline":
			d.Spec.ProgressDeadlineSeconds = nil
		case "counts":
			d.Status.Replicas = number(t, v)
			d.Status.UpdatedReplicas, d.Status.AvailableReplicas = d.Status.Replicas, d.Status.Replicas
		case "noted":
			d.Annotations = with(d.Annotations, rollout.AnnotationRevision, v)
		case "progress", "failure":
			kind := appsv1.DeploymentProgressing
			if k == "failure" {
				kind = appsv1.DeploymentReplicaFailure
			}
			d.Status.Conditions = []appsv1.DeploymentCondition{{Type: kind, Status: corev1.ConditionTrue, Reason: v,
				Message: "in the words of the controller", LastUpdateTime: metav1.NewTime(w.now.Truncate(time.Second))}}
		default:
			t.Fatalf("deployment: no %q", k)
		}
	}
}

func (w *world) changeSet(t *testing.T, name string, args map[string]string, because string) {
	var before *appsv1.ReplicaSet
	at := len(w.sets)
	for i, rs := range w.sets {
		if rs.Name == name {
			before, at = rs, i
		}
	}
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{},
		CreationTimestamp: metav1.NewTime(w.now.Truncate(time.Second))}}
	if before != nil {
		set = before.DeepCopy()
	} else {
		w.sets = append(w.sets, nil)
	}
	set.Spec.MinReadySeconds = w.deployment.Spec.MinReadySeconds
	if because != "" {
		set.Annotations[v1alpha1.AnnotationScaledBecause] = because
	}
	for k, v := range args {
		switch k {
		case "replicas":
			set.Spec.Replicas = ptr.To(number(t, v))
		case "image":
			set.Spec.Template = template(v)
		case "rev":
			set.Annotations[rollout.AnnotationRevision] = v
		case "history":
			set.Annotations[rollout.AnnotationRevisionHistory] = v
		case "cause":
			set.Annotations[rollout.AnnotationChangeCause] = v
		default:
			t.Fatalf("set: no %q", k)
		}
	}
	w.sets[at] = set
	w.memory.seeSet(key, before, set, before == nil)
}

// changePod takes moments=, in the form ready=10:00:01.5,started=…, and states of
// the pod itself.
func (w *world) changePod(t *testing.T, name string, args map[string]string, moments string) {
	var pod *corev1.Pod
	for i, there := range w.pods {
		if there.Name == name {
			pod = there.DeepCopy()
			w.pods[i] = pod
		}
	}
	if pod == nil {
		pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(w.now.Truncate(time.Second))},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "httpd"}}}}
		w.pods = append(w.pods, pod)
	}
	second := metav1.NewTime(w.now.Truncate(time.Second))
	w.version++
	pod.ResourceVersion = strconv.Itoa(w.version)
	if moments != "" {
		var list []string
		for _, field := range strings.Fields(moments) {
			k, v, _ := strings.Cut(field, "=")
			list = append(list, fmt.Sprintf("%q: %q", k, clock(t, v).Format(metav1.RFC3339Micro)))
		}
		pod.Annotations = map[string]string{v1alpha1.AnnotationMoments: "{" + strings.Join(list, ", ") + "}"}
	}
	gone := false
	for k, v := range args {
		switch k {
		case "set":
			pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: v, UID: types.UID("uid-" + v), Controller: ptr.To(true)}}
		case "node":
			pod.Spec.NodeName = v
			setCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: second})
		case "ready":
			setCondition(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: second})
		case "unschedulable":
			setCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: v})
		case "waiting":
			reason, message, _ := strings.Cut(v, ",")
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
		case "restarts":
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: number(t, v), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: second}}}}
		case "deleted":
			grace := int64(number(t, v))
			pod.DeletionGracePeriodSeconds = &grace
			pod.DeletionTimestamp = ptr.To(metav1.NewTime(w.now.Truncate(time.Second).Add(time.Duration(grace) * time.Second)))
		case "gone":
			gone = true
		default:
			t.Fatalf("pod: no %q", k)
		}
	}
	if !gone {
		w.memory.seePod(pod)
		return
	}
	for i, there := range w.pods {
		if there == pod && args["gone"] != "listed" {
			w.pods = append(w.pods[:i:i], w.pods[i+1:]...)
		}
	}
	if args["gone"] != "unseen" {
		w.memory.losePod(key, pod.OwnerReferences[0].UID, pod)
	}
}

func setCondition(pod *corev1.Pod, c corev1.PodCondition) {
	pod.Status.Conditions = append(slices.DeleteFunc(pod.Status.Conditions, func(was corev1.PodCondition) bool { return was.Type == c.Type }), c)
}

// decide decides as a reconcile does, and writes what was decided.
func (w *world) decide(t *testing.T) string {
	f := Facts{Deployment: w.deployment, OnFailure: w.namespace, ReplicaSets: w.sets, Services: w.services, Pods: map[types.UID][]Pod{}}
	for _, pod := range w.pods {
		set := pod.OwnerReferences[0].UID
		f.Pods[set] = append(f.Pods[set], Pod{Pod: pod})
	}
	f.Records = append(f.Records, w.records...)
	w.memory.tell(key, &f)
	plan := Decide(f)
	w.memory.keep(key, plan)
	if plan.Create != nil {
		w.records = append(w.records, plan.Create)
	}
	for i, r := range w.records {
		for _, c := range plan.Causes {
			if c.Record == r.Name {
				changed := r.DeepCopy()
				changed.Spec.Cause, changed.Spec.CauseComputed = c.Cause, c.Computed
				w.records[i] = changed
			}
		}
		for _, s := range plan.Statuses {
			if s.Record == r.Name {
				changed := w.records[i].DeepCopy()
				changed.Status = stored(t, s.Status)
				w.records[i] = changed
				w.memory.wrote(key, s.Revision, s.Status)
			}
		}
	}
	out := plan.String()
	if w.memory.targets[key].idle {
		out += "nothing is open\n"
	}
	return out
}

// stored returns a status as it will be read back.
func stored(t *testing.T, status v1alpha1.RolloutRecordStatus) (back v1alpha1.RolloutRecordStatus) {
	t.Helper()
	encoded, err := json.Marshal(own(&status))
	if err == nil {
		err = json.Unmarshal(encoded, &back)
	}
	if err != nil {
		t.Fatal(err)
	}
	return back
}
