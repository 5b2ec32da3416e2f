package tainteviction

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"windlass.dev/windlass/internal/controller/loop"
)

func TestPlan(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *metav1.Time { return ptr.To(metav1.NewTime(now.Add(-d))) }
	unreachable := func(d time.Duration) corev1.Taint {
		return corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: ago(d)}
	}
	maintenance := corev1.Taint{Key: "maintenance", Value: "yes", Effect: corev1.TaintEffectNoExecute, TimeAdded: ago(0)}
	seconds := func(key string, n int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &n}
	}
	forever := corev1.Toleration{Operator: corev1.TolerationOpExists}
	for _, test := range []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		created     time.Duration
		held        bool
		phase       corev1.PodPhase
		want        string
	}{
		{"no taint", nil, nil, time.Hour, false, "", "stays"},
		{"another effect", []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}, nil, time.Hour, false, "", "stays"},
		{"not tolerated", []corev1.Taint{maintenance}, nil, time.Hour, false, "", "goes"},
		{"tolerated for good", []corev1.Taint{maintenance, unreachable(time.Hour)}, []corev1.Toleration{forever}, time.Hour, false, "", "stays"},
		{"tolerated for a while", []corev1.Taint{unreachable(time.Minute)}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, 300)}, time.Hour, false, "", "stays, looked at in 4m0s"},
		{"for long enough", []corev1.Taint{unreachable(5 * time.Minute)}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, 300)}, time.Hour, false, "", "goes, its node is lost"},
		{"a pod that came later has its time", []corev1.Taint{unreachable(time.Hour)}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, 300)}, time.Minute, false, "", "stays, looked at in 4m0s"},
		{"not at all", []corev1.Taint{unreachable(0)}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, -1)}, time.Hour, false, "", "goes, its node is lost"},
		{"the shortest counts", []corev1.Taint{unreachable(0), maintenance}, []corev1.Toleration{seconds(corev1.TaintNodeUnreachable, 300), seconds("maintenance", 60)}, time.Hour, false, "", "stays, looked at in 1m0s"},
		{"its trouble is not held against it", []corev1.Taint{unreachable(time.Hour)}, nil, time.Hour, true, "", "stays"},
		{"somebody empties the node all the same", []corev1.Taint{maintenance}, nil, time.Hour, true, "", "goes"},
		{"it has finished", []corev1.Taint{maintenance}, nil, time.Hour, false, corev1.PodFailed, "stays"},
	} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: test.taints}}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", CreationTimestamp: *ago(test.created)}, Spec: corev1.PodSpec{Tolerations: test.tolerations}}
		pod.Status.Phase = test.phase
		evictions, wakeAt := plan(node, []*corev1.Pod{pod}, patience{Held: test.held, Since: now.Add(-2 * time.Hour)}, now)
		got := "stays"
		if len(evictions) > 0 {
			if got = "goes"; evictions[0].Lost {
				got += ", its node is lost"
			}
		}
		if !wakeAt.IsZero() {
			got += fmt.Sprintf(", looked at in %v", wakeAt.Sub(now))
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		pod.DeletionTimestamp = ago(0)
		if evictions, _ := plan(node, []*corev1.Pod{pod}, patience{Held: test.held, Since: now.Add(-2 * time.Hour)}, now); len(evictions) > 0 {
			t.Errorf("%s: evicted although it is being deleted", test.name)
		}
	}
}

// What there was of a node's trouble before this process looked on does not count,
// and nor does what a clock that was set back says; what somebody else wants does.
func TestPatience(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name  string
		key   string
		added time.Duration // of the taint, from now
		since time.Duration // ago
		want  time.Duration // until the pod goes
	}{
		{"long looked on at", corev1.TaintNodeUnreachable, -4 * time.Minute, time.Hour, time.Minute},
		{"just awake", corev1.TaintNodeUnreachable, -time.Hour, 0, 5 * time.Minute},
		{"just awake, of a node that is not ready", corev1.TaintNodeNotReady, -time.Hour, 0, 5 * time.Minute},
		{"awake for a while", corev1.TaintNodeUnreachable, -time.Hour, 2 * time.Minute, 3 * time.Minute},
		{"the clock was set back", corev1.TaintNodeUnreachable, 24 * time.Hour, time.Minute, 4 * time.Minute},
		{"somebody wants the node empty", "maintenance", -4 * time.Minute, 0, time.Minute},
	} {
		added := metav1.NewTime(now.Add(test.added))
		node := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: test.key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &added}}}}
		pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists, TolerationSeconds: ptr.To[int64](300)}}}}
		evictions, wakeAt := plan(node, []*corev1.Pod{pod}, patience{Since: now.Add(-test.since)}, now)
		if len(evictions) > 0 || !wakeAt.Equal(now.Add(test.want)) {
			t.Errorf("%s: %d evictions now, the next look in %v; want one in %v", test.name, len(evictions), wakeAt.Sub(now), test.want)
		}
	}
}

// TestZones: when so many nodes are not ready that nobody is evicted for it.
func TestZones(t *testing.T) {
	nodes := func(zone string, ready, unready int) (list []corev1.Node) {
		for i := range ready + unready {
			status := corev1.ConditionTrue
			if i >= ready {
				status = corev1.ConditionUnknown
			}
			list = append(list, corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: zone}},
				Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}}})
		}
		return list
	}
	for _, test := range []struct {
		name          string
		ready, lost   int
		readyB, lostB int
		want          bool
	}{
		{"one of two", 1, 1, 0, 0, false},
		{"two of three", 1, 2, 0, 0, false},
		{"three of four", 1, 3, 0, 0, true},
		{"three of six", 3, 3, 0, 0, false},
		{"six of eleven", 5, 6, 0, 0, false},
		{"eleven of twenty", 9, 11, 0, 0, true},
		{"all", 0, 1, 0, 0, true},
		{"all, and all of another zone", 0, 3, 0, 3, true},
		{"all, and not all of another zone", 0, 3, 1, 3, false},
		{"few, and many of another zone", 3, 1, 1, 3, false},
	} {
		zones := zonesOf(append(nodes("", test.ready, test.lost), nodes("b", test.readyB, test.lostB)...))
		if got := held(zones, ""); got != test.want {
			t.Errorf("%s: held %t, want %t", test.name, got, test.want)
		}
	}
	out := nodes("", 1, 3)
	out[3].Labels[excluded] = ""
	if held(zonesOf(out), "") {
		t.Error("a node that is left out counts")
	}
}

// Once so many are not lost any more the pods of the others have their time anew.
func TestTimeAnew(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	r := &reconciler{vigil: loop.NewVigil(now), held: map[string]time.Time{}}
	began := now
	for _, step := range []struct {
		unready int
		held    bool
		since   time.Duration
	}{{2, false, 0}, {3, true, time.Second}, {3, true, 2 * time.Second}, {2, false, 2 * time.Second}, {1, false, 2 * time.Second}} {
		if p := r.patience(map[string]zone{"": {ready: 1, unready: step.unready}}, "", now); p.Held != step.held || p.Since.Sub(began) != step.since {
			t.Errorf("after %v with %d lost: held %t, since %v; want %t, %v", now.Sub(began), step.unready, p.Held, p.Since.Sub(began), step.held, step.since)
		}
		now = now.Add(time.Second)
	}
}

// TestOnlyWhatWasSeen: a pod that has changed since it was looked at, or is another one
// of its name by now, keeps its status: what its agent has said since is not undone.
func TestOnlyWhatWasSeen(t *testing.T) {
	seen := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-0", UID: "former", ResourceVersion: "1"},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	is := seen.DeepCopy()
	is.UID, is.ResourceVersion, is.Status.Conditions[0].Status = "next", "", corev1.ConditionFalse
	c := fake.NewClientBuilder().WithStatusSubresource(is).WithObjects(is).Build()
	r := &reconciler{client: c, recorder: record.NewFakeRecorder(9), now: time.Now}
	if err := r.evict(t.Context(), &corev1.Node{}, eviction{Pod: seen, Lost: true}); !errors.Is(err, loop.ErrStale) {
		t.Errorf("evicted: %v", err)
	}
	var got corev1.Pod
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(is), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Status != corev1.ConditionFalse || got.Status.Reason != "" {
		t.Errorf("its status became %+v", got.Status)
	}
}
