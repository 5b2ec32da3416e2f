package eviction

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const mi = 1 << 20

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// testPod is a pod with one container, that requests and limits such as
// "memory=1Mi" are of.
func testPod(name string, priority int32, requests, limits string) *corev1.Pod {
	list := func(text string) corev1.ResourceList {
		l := corev1.ResourceList{}
		for pair := range strings.FieldsSeq(text) {
			key, amount, _ := strings.Cut(pair, "=")
			l[corev1.ResourceName(key)] = resource.MustParse(amount)
		}
		return l
	}
	p := &corev1.Pod{}
	p.Name, p.Spec.Priority = name, &priority
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}}}
	return p
}

func using(pod *corev1.Pod, memory, written, processes int64) Pod {
	return Pod{Spec: pod, Containers: []Container{{Name: "c", Memory: memory, Written: written}}, Processes: processes}
}

// Who goes first: by whether it uses more than it requests, then by priority, then
// by how much more.
func TestOrder(t *testing.T) {
	pods := []Pod{
		using(testPod("within", -10, "memory=100Mi ephemeral-storage=100Mi", ""), 90*mi, 90*mi, 1),
		using(testPod("important", 100, "", ""), 500*mi, 500*mi, 2),
		using(testPod("little-over", 0, "memory=40Mi ephemeral-storage=40Mi", ""), 50*mi, 50*mi, 900),
		using(testPod("much-over", 0, "memory=10Mi ephemeral-storage=10Mi", ""), 40*mi, 40*mi, 3),
		using(testPod("critical", 2_000_001_000, "", ""), 900*mi, 900*mi, 9000),
	}
	for _, test := range []struct {
		signal Signal
		want   string
	}{
		{MemoryAvailable, "much-over little-over important within"},
		{NodeFSAvailable, "much-over little-over important within"},
		{ImageFSAvailable, "much-over little-over important within"},
		{PIDAvailable, "within little-over much-over important"},
	} {
		left := append([]Pod{}, pods...)
		var order []string
		for {
			victim := choose(left, test.signal)
			if victim == nil {
				break
			}
			order = append(order, victim.Spec.Name)
			var rest []Pod
			for _, p := range left {
				if p.Spec.Name != victim.Spec.Name {
					rest = append(rest, p)
				}
			}
			left = rest
		}
		if got := strings.Join(order, " "); got != test.want {
			t.Errorf("%s: %s, want %s", test.signal, got, test.want)
		}
	}
}

func TestDecide(t *testing.T) {
	thresholds, err := Parse("memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,pid.available<10")
	if err != nil {
		t.Fatal(err)
	}
	well := map[Signal]Level{MemoryAvailable: {500 * mi, 1000 * mi}, NodeFSAvailable: {500, 1000}, NodeFSInodesFree: {500_000, 1_000_000}, PIDAvailable: {10, 100}}
	with := func(signal Signal, available int64) map[Signal]Level {
		levels := map[Signal]Level{}
		for s, l := range well {
			levels[s] = l
		}
		levels[signal] = Level{available, levels[signal].Capacity}
		return levels
	}
	hog := using(testPod("hog", 0, "memory=10Mi", ""), 700*mi, 0, 50)
	disk := using(testPod("disk", 0, "", ""), 0, 900*mi, 1)
	many := using(testPod("many", 0, "", ""), 0, mi, 1)
	many.Inodes = 100_000
	volume := using(testPod("volume", 0, "", ""), 0, 0, 0)
	size := resource.MustParse("1Mi")
	volume.Spec.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}}}
	volume.EmptyDirs = map[string]int64{"v": mi + 1}
	container := using(testPod("container", 0, "", "ephemeral-storage=1Mi"), 0, mi+1, 0)
	logs := using(testPod("logs", 0, "", "ephemeral-storage=1Mi"), 0, 1, 0)
	logs.Logs = mi
	inMemory := using(testPod("in-memory", 0, "", "ephemeral-storage=1Mi"), 0, 0, 0)
	inMemory.Spec.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
	inMemory.EmptyDirs = map[string]int64{"v": 9 * mi}
	recently := map[corev1.NodeConditionType]time.Time{corev1.NodeMemoryPressure: epoch.Add(-time.Minute)}
	longAgo := map[corev1.NodeConditionType]time.Time{corev1.NodeMemoryPressure: epoch.Add(-time.Hour)}
	for _, test := range []struct {
		name   string
		levels map[Signal]Level
		pods   []Pod
		met    map[corev1.NodeConditionType]time.Time
		busy   bool
		want   string
	}{
		{"all is well", well, []Pod{hog, disk}, nil, false, "[]"},
		{"nothing is known", nil, []Pod{hog}, nil, false, "[]"},
		{"memory", with(MemoryAvailable, 99*mi+5), []Pod{disk, hog}, nil, false,
			"[MemoryPressure] hog: The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. Container c was using 700Mi, request is 10Mi, has larger consumption of memory. "},
		{"inodes", with(NodeFSInodesFree, 49_999), []Pod{disk, many, hog}, nil, false,
			"[DiskPressure] many: The node was low on resource: inodes. Threshold quantity: 50k, available: 49999. "},
		{"disk", with(NodeFSAvailable, 99), []Pod{disk, hog}, nil, false,
			"[DiskPressure] disk: The node was low on resource: ephemeral-storage. Threshold quantity: 100, available: 99. Container c was using 900Mi, request is 0, has larger consumption of ephemeral-storage. "},
		{"processes", with(PIDAvailable, 9), []Pod{disk, hog}, nil, false, "[PIDPressure] hog: The node was low on resource: pids. Threshold quantity: 10, available: 9. "},
		{"one at a time", with(MemoryAvailable, 0), []Pod{hog}, nil, true, "[MemoryPressure]"},
		{"nobody is left", with(MemoryAvailable, 0), nil, nil, false, "[MemoryPressure]"},
		{"lately", well, []Pod{hog}, recently, false, "[MemoryPressure]"},
		{"long ago", well, []Pod{hog}, longAgo, false, "[]"},
		{"a volume above its limit", well, []Pod{volume, hog}, nil, false, `[] volume: Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
		{"a container above its limit", well, []Pod{container}, nil, false, "[] container: Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
		{"its logs count", well, []Pod{logs}, nil, false, "[] logs: Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
		{"memory does not", well, []Pod{inMemory}, nil, false, "[]"},
		{"limits first", with(MemoryAvailable, 0), []Pod{volume, hog}, nil, false, `[MemoryPressure] volume: Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
	} {
		plan := Decide(Facts{Now: epoch, Thresholds: thresholds, Levels: test.levels, Pods: test.pods, Met: test.met, Lasts: 5 * time.Minute, Busy: test.busy, Reclaimed: true})
		got := fmt.Sprint(plan.Conditions)
		for _, e := range plan.Evict {
			got += " " + e.Pod.Name + ": " + e.Message
		}
		if got != test.want {
			t.Errorf("%s:\n%s, want\n%s", test.name, got, test.want)
		}
	}
	two := testPod("two", 0, "", "ephemeral-storage=1Mi")
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "d", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("9Mi")}}})
	p := using(two, 0, 2*mi, 0)
	if got, want := p.tooLarge(), `Container c exceeded its local ephemeral storage limit "1Mi". `; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if !Measured(two) || Measured(hog.Spec) || !Measured(volume.Spec) {
		t.Error("what is measured")
	}
}

// Before a pod goes for want of disk, what nobody uses does.
func TestReclaimFirst(t *testing.T) {
	facts := Facts{
		Now: epoch, Thresholds: []Threshold{{Signal: NodeFSInodesFree, Part: 0.05}},
		Levels: map[Signal]Level{NodeFSInodesFree: {4, 100}}, Pods: []Pod{using(testPod("p", 0, "", ""), 0, mi, 1)},
	}
	if plan := Decide(facts); !plan.Reclaim || plan.Evict != nil || len(plan.Conditions) != 1 {
		t.Errorf("%+v", plan)
	}
	facts.Reclaimed = true
	if plan := Decide(facts); plan.Reclaim || len(plan.Evict) != 1 {
		t.Errorf("%+v", plan)
	}
	facts.Levels[NodeFSInodesFree] = Level{5, 100}
	if plan := Decide(facts); plan.Reclaim || plan.Evict != nil {
		t.Errorf("that was enough, but %+v", plan)
	}
}

// A threshold with a grace tells of pressure at once, and evicts when it was met for
// that long without a pause.
func TestGrace(t *testing.T) {
	soft := Threshold{Signal: MemoryAvailable, Quantity: 300, Grace: time.Minute}
	hard := Threshold{Signal: MemoryAvailable, Quantity: 100}
	since := map[Threshold]time.Time(nil)
	for _, step := range []struct {
		at        time.Duration
		available int64
		want      string
	}{
		{0, 299, "[MemoryPressure]"},
		{59 * time.Second, 299, "[MemoryPressure]"},
		{time.Minute, 299, "[MemoryPressure] evict true"},
		{61 * time.Second, 300, "[]"},
		{62 * time.Second, 299, "[MemoryPressure]"},
		{63 * time.Second, 99, "[MemoryPressure] evict false"},
		{125 * time.Second, 99, "[MemoryPressure] evict false"},
	} {
		plan := Decide(Facts{
			Now: epoch.Add(step.at), Thresholds: []Threshold{soft, hard}, Since: since,
			Levels: map[Signal]Level{MemoryAvailable: {step.available, 1000}}, Pods: []Pod{using(testPod("p", 0, "", ""), mi, 0, 1)},
		})
		since = plan.Since
		got := fmt.Sprint(plan.Conditions)
		for _, e := range plan.Evict {
			got += fmt.Sprint(" evict ", e.Soft)
		}
		if got != step.want {
			t.Errorf("after %s: %s, want %s", step.at, got, step.want)
		}
	}
}

func TestWithGrace(t *testing.T) {
	list := []Threshold{{Signal: MemoryAvailable, Quantity: 1}, {Signal: NodeFSAvailable, Part: 0.1}}
	soft, err := WithGrace(list, "nodefs.available=2m, memory.available=1m30s")
	if err != nil || soft[0].Grace != 90*time.Second || soft[1].Grace != 2*time.Minute || list[0].Grace != 0 {
		t.Errorf("%+v, %v", soft, err)
	}
	for _, bad := range []string{"", "memory.available=1m", "memory.available,nodefs.available=1m", "memory.available=0s,nodefs.available=1m", "swap.available=1m"} {
		if soft, err := WithGrace(list, bad); err == nil {
			t.Errorf("%q: %+v", bad, soft)
		}
	}
}

func TestParse(t *testing.T) {
	if list, err := Parse(Default); err != nil || len(list) != 5 || list[1].of(1000) != 100 || list[0].of(0) != 100*mi {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := Parse(""); err != nil || list != nil {
		t.Errorf("%+v, %v", list, err)
	}
	for _, bad := range []string{"memory.available", "memory.available>1Mi", "swap.available<1", "memory.available<", "memory.available<-1", "memory.available<101%", "memory.available<0%", "nodefs.available<NaN%"} {
		if list, err := Parse(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %+v, %v", bad, list, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Default)
	f.Add("pid.available<5,memory.available<1e3%")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(text)
		if soft, err := WithGrace(list, text); err == nil && len(soft) != len(list) {
			t.Errorf("%q: %+v", text, soft)
		}
		for _, th := range list {
			if err != nil || th.of(1000) < 0 {
				t.Errorf("%q: %+v, %v", text, th, err)
			}
		}
	})
}
