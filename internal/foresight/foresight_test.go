package foresight

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// TestForesight runs the scripts in testdata/foresight. Their commands:
//
//	deployment       a Deployment that is complete, from YAML; its pods have nodes
//	edit             what it becomes: the YAML is laid over it
//	node NAME [cpu=Q] [pods=N] [images=(A,B)] [taint=KEY]
//	others NODE cpu=Q [ended]     a pod of somebody else
//	found KIND/NAME [is=absent|unserved|unknown] [keys=(A,B)]
//	registry IMAGE is=present|absent|unknown
//	quota RESOURCE=HARD used=Q
//	policy rollback|pause         of the namespace
//	record start=D stop=D         an earlier rollout that was complete
//	unready N                     pods are not ready
//	refused                       a Status of the API server, in JSON
//	plan [json]                   prints the Foresight
//
// Nodes come before the Deployment.
func TestForesight(t *testing.T) {
	datadriven.Walk(t, "testdata/foresight", func(t *testing.T, path string) {
		var s script
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.command(t, d) })
	})
}

type script struct {
	facts Facts
	made  int
}

func (s *script) command(t *testing.T, d *datadriven.TestData) string {
	f := &s.facts
	switch d.Cmd {
	case "node":
		f.Nodes = append(f.Nodes, nodeOf(t, d))
	case "others":
		pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: d.CmdArgs[0].Key, Containers: []corev1.Container{{}}}}
		s.made++
		pod.UID = types.UID(fmt.Sprint("other", s.made))
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(arg(d, "cpu", "0"))}
		if d.HasArg("ended") {
			pod.Status.Phase = corev1.PodSucceeded
		}
		f.Pods = append(f.Pods, pod)
	case "deployment":
		s.deploy(t, d.Input)
	case "new":
		s.begin()
		f.After = deploymentOf(t, &appsv1.Deployment{}, d.Input)
		f.Name, f.Namespace = f.After.Name, "default"
	case "edit":
		f.After = deploymentOf(t, f.Before.DeepCopy(), d.Input)
	case "claim", "volume", "class":
		s.storage(t, d)
	case "found":
		kind, name, _ := strings.Cut(d.CmdArgs[0].Key, "/")
		found := Found{Presence: presence(arg(d, "is", "present")), Keys: list(d, "keys"), Why: "timeout"}
		f.Found[Object{kind, name}] = found
	case "registry":
		f.Registry[d.CmdArgs[0].Key] = Answer{Presence: presence(arg(d, "is", "")), Why: "it said so"}
	case "quota":
		q := corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}}
		name := corev1.ResourceName(d.CmdArgs[0].Key)
		q.Spec.Hard = corev1.ResourceList{name: resource.MustParse(d.CmdArgs[0].Vals[0])}
		q.Status.Used = corev1.ResourceList{name: resource.MustParse(arg(d, "used", "0"))}
		f.Quotas = append(f.Quotas, q)
	case "policy":
		f.OnFailure = v1alpha1.FailurePolicy(d.CmdArgs[0].Key)
	case "record":
		f.Records = append(f.Records, recordOf(t, d, f))
	case "unready":
		n, _ := strconv.Atoi(d.CmdArgs[0].Key)
		for _, pod := range f.Pods {
			if len(pod.OwnerReferences) > 0 && n > 0 {
				pod.Status.Conditions = nil
				n--
			}
		}
	case "refused":
		f.After, f.Refused = nil, &metav1.Status{}
		if err := json.Unmarshal([]byte(d.Input), f.Refused); err != nil {
			t.Fatal(err)
		}
	case "images":
		return strings.Join(ToPull(f), "\n") + "\n"
	case "references":
		var b strings.Builder
		for _, r := range References(&f.After.Spec.Template) {
			fmt.Fprintf(&b, "%s %s %q optional=%v %s\n", r.Kind, r.Name, r.Key, r.Optional, r.Field)
		}
		return b.String()
	case "plan":
		before := fmt.Sprintf("%+v", *f)
		foresight := Of(*f)
		if fmt.Sprintf("%+v", *f) != before {
			t.Error("the facts were changed")
		}
		if !d.HasArg("json") {
			return foresight.String()
		}
		out, err := yaml.Marshal(foresight)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	default:
		t.Fatalf("no command %s", d.Cmd)
	}
	return ""
}

// begin forgets all but the nodes and what runs on them.
func (s *script) begin() {
	was := s.facts
	s.facts = Facts{Nodes: was.Nodes, Now: time.Date(2025, 1, 1, 12, 0, 0, 0, time.UTC), Found: map[Object]Found{}, Registry: map[string]Answer{}}
	for _, pod := range was.Pods {
		if len(pod.OwnerReferences) == 0 {
			s.facts.Pods = append(s.facts.Pods, pod)
		}
	}
}

// deploy makes a Deployment that was rolled out, by the forecast itself.
func (s *script) deploy(t *testing.T, text string) {
	s.begin()
	f := &s.facts
	d := deploymentOf(t, &appsv1.Deployment{}, text)
	d.UID, d.Generation = "uid", 1
	f.Before, f.After, f.Name, f.Namespace = d, d, d.Name, "default"
	plan := rollout.Decide(rollout.Snapshot{Deployment: d, Now: f.Now})
	rs := plan.Steps[0].(rollout.Create).ReplicaSet
	rs.UID, rs.CreationTimestamp = "set", metav1.NewTime(f.Now.Add(-time.Hour))
	rs.Spec.Replicas, rs.Status.Replicas = d.Spec.Replicas, *d.Spec.Replicas
	d.Annotations = map[string]string{rollout.AnnotationRevision: "1"}
	f.ReplicaSets = []*appsv1.ReplicaSet{rs}
	room := roomOf(f)
	for i := range *d.Spec.Replicas {
		pod := withRequests(&corev1.Pod{Spec: d.Spec.Template.Spec})
		pod.Name = fmt.Sprintf("%s-%d", rs.Name, i)
		pod.UID, pod.CreationTimestamp = types.UID(pod.Name), rs.CreationTimestamp
		pod.OwnerReferences = []metav1.OwnerReference{{UID: rs.UID, Controller: ptr.To(true)}}
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: rs.CreationTimestamp}}
		if !room.Place(pod) {
			t.Fatal("no room for the Deployment as it is")
		}
		for _, node := range f.Nodes {
			if pod.Spec.NodeName == "" {
				pod.Spec.NodeName = node.Name
			}
		}
		f.Pods = append(f.Pods, pod)
	}
}

func deploymentOf(t *testing.T, d *appsv1.Deployment, text string) *appsv1.Deployment {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), d); err != nil {
		t.Fatal(err)
	}
	if d.Spec.Selector == nil {
		d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": d.Name}}
		d.Spec.Template.Labels = map[string]string{"app": d.Name}
	}
	return d
}

func nodeOf(t *testing.T, d *datadriven.TestData) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: d.CmdArgs[0].Key}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(arg(d, "cpu", "4")), corev1.ResourcePods: resource.MustParse(arg(d, "pods", "20")),
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, image := range list(d, "images") {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{image}})
	}
	if key := arg(d, "taint", ""); key != "" {
		n.Spec.Taints = []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoSchedule}}
	}
	return n
}

func recordOf(t *testing.T, d *datadriven.TestData, f *Facts) v1alpha1.RolloutRecord {
	at := func(after string) *metav1.MicroTime {
		by, err := time.ParseDuration(after)
		if err != nil {
			t.Fatal(err)
		}
		return ptr.To(metav1.NewMicroTime(f.Now.Add(by)))
	}
	r := v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(len(f.Records))}}
	r.Spec.Target.UID, r.Spec.To.Name, r.Status.Phase = f.Before.UID, "to", v1alpha1.RolloutCompleted
	r.Status.Pods = []v1alpha1.PodTimeline{
		{Set: "to", Created: at("0s"), Available: at(arg(d, "start", "0s"))},
		{Set: "from", StopRequested: at("0s"), Stopped: at(arg(d, "stop", "0s"))},
	}
	return r
}

func presence(s string) Presence {
	return map[string]Presence{"present": Present, "absent": Absent, "unserved": Unserved}[s]
}

func arg(d *datadriven.TestData, name, otherwise string) string {
	if l := list(d, name); len(l) > 0 {
		return l[0]
	}
	return otherwise
}

func list(d *datadriven.TestData, name string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == name {
			return a.Vals
		}
	}
	return nil
}

// FuzzRefusals: whatever an API server says, each of its words is told.
func FuzzRefusals(f *testing.F) {
	f.Add("spec.selector", `Invalid value: {"a":"b: c"}: field is immutable`)
	f.Add("spec.strategy.type", `Unsupported value: "Blue": supported values: "Recreate"`)
	f.Add("", `Invalid value: "]`)
	f.Fuzz(func(t *testing.T, field, message string) {
		status := &metav1.Status{Reason: metav1.StatusReasonInvalid, Details: &metav1.StatusDetails{
			Causes: []metav1.StatusCause{{Field: field, Message: message}},
		}}
		found := Refusals(status)
		if len(found) != 1 || found[0].Field != field {
			t.Fatalf("%+v", found)
		}
		if n := len(found[0].What) + len(found[0].Value); n < len(message)-len("Unsupported value: ")-len(`"": `) {
			t.Errorf("of %q is left %q and %q", message, found[0].What, found[0].Value)
		}
	})
}

// TestPodsThatWaitedForEachOther: what a pod took when a thousand started at once
// is not what it takes alone.
func TestPodsThatWaitedForEachOther(t *testing.T) {
	var begin = metav1.NewMicroTime(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	record := func(n int, create, available func(i int) time.Duration) []v1alpha1.RolloutRecord {
		var r v1alpha1.RolloutRecord
		r.Spec.To.Name = "to"
		for i := range n {
			r.Status.Pods = append(r.Status.Pods, v1alpha1.PodTimeline{Set: "to",
				Created:   ptr.To(metav1.NewMicroTime(begin.Add(create(i)))),
				Available: ptr.To(metav1.NewMicroTime(begin.Add(available(i))))})
		}
		return []v1alpha1.RolloutRecord{r}
	}
	at := func(d time.Duration) func(int) time.Duration {
		return func(i int) time.Duration { return time.Duration(i) * d }
	}
	mass := historyOf(record(1000, at(0), func(i int) time.Duration { return time.Second + time.Duration(i)*10*time.Millisecond }))
	oneByOne := historyOf(record(10, at(2*time.Second), func(i int) time.Duration { return time.Duration(i)*2*time.Second + time.Second }))
	for _, test := range []struct {
		name string
		past history
		n    int32
		want string
	}{
		{"alone, after a thousand at once", mass, 1, "11ms 1s"},
		{"a quarter of them", mass, 250, "2.75s 2.75s"},
		{"all of them", mass, 1000, "6s 6s"},
		{"alone, after one by one", oneByOne, 1, "1s 1s"},
		{"some, after one by one", oneByOne, 5, "1s 1s"},
	} {
		low, high := test.past.start(test.n)
		if got := fmt.Sprint(low.Round(time.Millisecond), " ", high.Round(time.Millisecond)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// storage adds a claim, a volume or a class from its manifest.
func (s *script) storage(t *testing.T, d *datadriven.TestData) {
	f := &s.facts
	read := func(into any) {
		if err := yaml.UnmarshalStrict([]byte(d.Input), into); err != nil {
			t.Fatal(err)
		}
	}
	switch d.Cmd {
	case "claim":
		c := &corev1.PersistentVolumeClaim{}
		read(c)
		c.Namespace = "default"
		f.Claims = append(f.Claims, c)
		f.Found[Object{"PersistentVolumeClaim", c.Name}] = Found{Presence: Present}
	case "volume":
		v := &corev1.PersistentVolume{}
		read(v)
		f.Volumes = append(f.Volumes, v)
	case "class":
		c := &storagev1.StorageClass{}
		read(c)
		f.Classes = append(f.Classes, c)
	}
}
