package rolloutrecord

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

var start = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

func testRecord() *v1alpha1.RolloutRecord {
	return &v1alpha1.RolloutRecord{Spec: v1alpha1.RolloutRecordSpec{StartedAt: metav1.NewMicroTime(start), To: v1alpha1.RolloutSide{Name: "new"}}}
}

// made returns the entry of a pod that was created i milliseconds after the
// start, and was available as long again after that.
func made(i int) entry {
	created := start.Add(time.Duration(i) * time.Millisecond)
	return entry{PodTimeline: v1alpha1.PodTimeline{
		Name: fmt.Sprintf("pod-%04d", i), Set: "new",
		Created: moment(created), Scheduled: moment(created), Ready: moment(created), Available: moment(created.Add(time.Duration(i) * time.Millisecond)),
	}}
}

func TestStatusIsBounded(t *testing.T) {
	record := testRecord()
	b := open(record, nil, nil)
	for i := range maxPods + 200 {
		e := made(i)
		switch {
		case i < 10:
			e.Note = "CrashLoopBackOff"
		case i < 20:
			e.Available = nil
		case i < 30:
			e.StopRequested, e.Stopped, e.gone = e.Ready, e.Ready, true
		}
		b.pods[e.Name] = e
	}
	for i := range int32(maxSteps + 7) {
		b.resize(Size{Time: start, Set: "new", From: &i, To: i + 1})
	}
	st := b.status(record)
	if len(st.Pods) != maxPods || st.PodsOmitted != 200 {
		t.Errorf("%d pods, %d omitted", len(st.Pods), st.PodsOmitted)
	}
	for i := range 20 {
		if want := fmt.Sprintf("pod-%04d", i); st.Pods[i].Name != want {
			t.Errorf("%s is not kept, but %s", want, st.Pods[i].Name)
		}
	}
	if st.Pods[20].Name != "pod-0220" {
		t.Errorf("of the uneventful ones, %s is the first to be kept", st.Pods[20].Name)
	}
	if len(st.Steps) != maxSteps || st.StepsOmitted != 7 || st.Steps[0].From != 7 {
		t.Errorf("%d steps, from %d, %d omitted", len(st.Steps), st.Steps[0].From, st.StepsOmitted)
	}
	if got := timing(st, "available"); got.Pods != maxPods+190 || got.Max.Duration != 499*time.Millisecond {
		t.Errorf("the omitted pods are not in the timings: %+v", got)
	}
	if got := timing(st, "stop"); got.Pods != 10 {
		t.Errorf("stopped: %+v", got)
	}
}

func timing(st v1alpha1.RolloutRecordStatus, stage string) v1alpha1.StageTiming {
	for _, t := range st.Timings {
		if t.Stage == stage {
			return t
		}
	}
	return v1alpha1.StageTiming{}
}

// TestOpenAfterRestart stores a status with pods omitted, and opens it in another
// process, where some of them are still there.
func TestOpenAfterRestart(t *testing.T) {
	record := testRecord()
	b := open(record, nil, nil)
	b.phase = v1alpha1.RolloutProgressing
	const all, still = maxPods + 100, 60
	for i := range all {
		e := made(i)
		b.pods[e.Name] = e
	}
	record.Status = b.status(record)

	there := map[string]bool{}
	for i := range all {
		there[storedKey(made(i).Name, made(i).Set)] = i < still || i >= 100
	}
	b = open(record, nil, there)
	if b.lost != 100 {
		t.Fatalf("%d lost", b.lost)
	}
	for i := range still {
		e := made(i)
		b.find(e, record)
		b.pods[e.Name] = e
	}
	again := b.status(record)
	if again.PodsOmitted != 100 || len(again.Pods) != maxPods {
		t.Errorf("%d pods, %d omitted", len(again.Pods), again.PodsOmitted)
	}
	before, after := timing(record.Status, "available"), timing(again, "available")
	if after.Pods != all || after.Max != before.Max {
		t.Errorf("available: %+v, before %+v", after, before)
	}
	fresh := made(all)
	b.lost = 0
	b.find(fresh, record)
	b.pods[fresh.Name] = fresh
	if got := timing(b.status(record), "available"); got.Pods != all+1 {
		t.Errorf("with a new one: %+v", got)
	}
}

func TestTimings(t *testing.T) {
	record := testRecord()
	b := open(record, nil, nil)
	for i := range 4 {
		e := made(10 * i)
		b.pods[e.Name] = e
	}
	before := made(-60_000) // was there before
	b.pods[before.Name] = before
	b.lostTimings = []v1alpha1.StageTiming{{Stage: "available", Pods: 3, Median: metav1.Duration{Duration: time.Second}, Max: metav1.Duration{Duration: time.Minute}}}
	got := timing(b.status(record), "available")
	want := v1alpha1.StageTiming{Stage: "available", Pods: 7, Median: metav1.Duration{Duration: 30 * time.Millisecond}, Max: metav1.Duration{Duration: time.Minute}}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestClocksThatDiffer: no stage takes less than nothing.
func TestClocksThatDiffer(t *testing.T) {
	e := made(5)
	e.Started, e.Ready = moment(start.Add(time.Second)), moment(start)
	if took, ok := sample("ready", e, testRecord()); !ok || took != 0 {
		t.Errorf("ready took %s, %v", took, ok)
	}
}

// BenchmarkDecide is a look at a rollout in which 1,000 pods have come and 1,000
// gone, where nothing has changed since the last.
func BenchmarkDecide(b *testing.B) {
	record := testRecord()
	book := open(record, nil, nil)
	for i := range 2000 {
		e := made(i)
		book.pods[e.Name] = e
	}
	b.ReportAllocs()
	for b.Loop() {
		again := book.clone()
		again.status(record)
	}
}

// A template may have more fields that change than a record may name.
func TestChangesAreBounded(t *testing.T) {
	env := func(n int) *corev1.PodTemplateSpec {
		c := corev1.Container{Name: "httpd", Image: "httpd:1"}
		for i := range n {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: "x"})
		}
		return &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}
	}
	for _, of := range []struct{ changes, named int }{{maxChanges, maxChanges}, {maxChanges + 5000, maxChanges + 1}} {
		got := summary(rollout.Changes(env(0), env(of.changes)))
		if len(got) != of.named {
			t.Errorf("%d changes: %d are named, want %d", of.changes, len(got), of.named)
		}
		if last := got[len(got)-1]; of.changes > maxChanges && last != (v1alpha1.FieldChange{Path: "…", To: "5000 more"}) {
			t.Errorf("%d changes: the last is %+v", of.changes, last)
		}
	}
}
