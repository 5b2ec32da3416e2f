package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rolloutview"
)

func TestRolloutTarget(t *testing.T) {
	for text, want := range map[string]string{
		"web": "web", "deployment/web": "web", "deploy/web": "web", "Deployment web": "web", "deployments.apps/web": "web",
		"sts/web": "statefulset/web", "statefulset web": "statefulset/web", "statefulset.apps/web": "statefulset/web",
		"pod/web": "", "deployment/": "", "deployment/a/b": "", "deployment a/b": "",
	} {
		if want == "web" {
			want = "deployment/web"
		}
		got, err := rolloutTarget(strings.Fields(text))
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
}

// A rollout that is over is told once it is quiet, or after a while.
func TestSettling(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	record := &v1alpha1.RolloutRecord{}
	running := rolloutview.Rollout{Phase: v1alpha1.RolloutProgressing, Record: record}
	stopping := rolloutview.Rollout{Phase: v1alpha1.RolloutCompleted, Record: record, Old: 1}
	complete := rolloutview.Rollout{Phase: v1alpha1.RolloutCompleted, Record: record}
	served := record.DeepCopy()
	served.Spec.Services = []string{"web"}
	counting := rolloutview.Rollout{Phase: v1alpha1.RolloutCompleted, Record: served}
	ended := metav1.NewMicroTime(now)
	served = served.DeepCopy()
	served.Status.EndedAt = &ended
	counted := rolloutview.Rollout{Phase: v1alpha1.RolloutCompleted, Record: served}
	var s settling
	for i, look := range []struct {
		after   time.Duration
		r       *rolloutview.Rollout
		changed bool
		want    bool
	}{
		{0, &running, true, false},
		{time.Hour, &running, false, false},
		{0, &stopping, true, false},
		{time.Second, &stopping, false, false},
		{0, &complete, true, false},
		{settleQuiet - 1, &complete, false, false},
		{1, &complete, false, true},
		{0, &running, true, false}, // a failed one that goes on after all
		{0, &stopping, true, false},
		{settleLimit - 1, &stopping, true, false},
		{1, &stopping, true, true},
		{0, &running, true, false},
		{0, &counting, true, false}, // its Services' last connections are being counted
		{settleTraffic - 1, &counting, false, false},
		{1, &counting, false, true},
		{0, &running, true, false},
		{0, &counted, true, false}, // it ended long ago
		{settleQuiet, &counted, false, true},
	} {
		now = now.Add(look.after)
		if done, again := s.done(look.r, look.r.Phase.Over(), look.changed, now); done != look.want || !done && again <= 0 {
			t.Errorf("look %d: %v, again in %s, want %v", i, done, again, look.want)
		}
	}
}

// The status command speaks as kubectl does, and then as the record.
func TestStatusTeller(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 10, 0, time.UTC)
	deployment := func(revision, progressing string, updated int32) *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "u", Annotations: map[string]string{"deployment.kubernetes.io/revision": revision}},
			Spec:       appsv1.DeploymentSpec{Replicas: ptr.To(int32(2))},
			Status: appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: updated, AvailableReplicas: 2, Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentProgressing, Reason: progressing},
			}},
		}
	}
	record := func(revision int64, phase v1alpha1.RolloutPhase) v1alpha1.RolloutRecord {
		return v1alpha1.RolloutRecord{
			Spec: v1alpha1.RolloutRecordSpec{
				Target: v1alpha1.RolloutTarget{Kind: "Deployment", Name: "web", UID: "u"}, Revision: revision,
				StartedAt: metav1.NewMicroTime(now.Add(-2 * time.Second)),
			},
			Status: v1alpha1.RolloutRecordStatus{Phase: phase},
		}
	}
	type step struct {
		d       *appsv1.Deployment
		records []v1alpha1.RolloutRecord
		after   time.Duration
	}
	waiting := step{d: deployment("2", "ReplicaSetUpdated", 1), records: []v1alpha1.RolloutRecord{record(2, v1alpha1.RolloutProgressing)}}
	complete := step{d: deployment("2", "NewReplicaSetAvailable", 2), records: []v1alpha1.RolloutRecord{record(2, v1alpha1.RolloutCompleted)}}
	late := step{d: deployment("2", "ProgressDeadlineExceeded", 1), records: waiting.records} // its record does not know yet
	quiet := complete
	quiet.after = settleQuiet
	for _, test := range []struct {
		name    string
		options statusOptions
		steps   []step
		done    bool
		failed  bool
		says    []string
	}{
		{"waits", statusOptions{watch: true}, []step{waiting, waiting}, false, false, []string{"1 out of 2 new replicas have been updated...\n"}},
		{"does not wait", statusOptions{}, []step{waiting}, true, false, []string{"1 out of 2 new", "revision 2 of deployment/web: progressing"}},
		{"complete", statusOptions{watch: true}, []step{waiting, complete, quiet}, true, false, []string{"successfully rolled out\n", "revision 2 of deployment/web: completed", "no traffic was counted"}},
		{"late", statusOptions{watch: true}, []step{late, {d: late.d, records: []v1alpha1.RolloutRecord{record(2, v1alpha1.RolloutFailed)}}, {d: late.d, records: []v1alpha1.RolloutRecord{record(2, v1alpha1.RolloutFailed)}, after: settleQuiet}}, true, true, []string{"failed", "windlass rollout undo deployment/web"}},
		{"rolled back", statusOptions{watch: true}, []step{waiting, {d: deployment("3", "ReplicaSetUpdated", 1), records: []v1alpha1.RolloutRecord{record(2, v1alpha1.RolloutRolledBack), record(3, v1alpha1.RolloutProgressing)}}, {d: deployment("3", "ReplicaSetUpdated", 1), records: []v1alpha1.RolloutRecord{record(2, v1alpha1.RolloutRolledBack), record(3, v1alpha1.RolloutProgressing)}, after: settleQuiet}}, true, true, []string{"revision 2 of deployment/web: rolled back"}},
		{"superseded", statusOptions{watch: true}, []step{waiting, {d: deployment("3", "ReplicaSetUpdated", 1), records: []v1alpha1.RolloutRecord{record(2, v1alpha1.RolloutSuperseded), record(3, v1alpha1.RolloutProgressing)}}}, false, false, []string{"1 out of 2 new"}},
		{"another revision", statusOptions{watch: true, revision: 1}, []step{waiting}, true, true, []string{"revision 2"}},
	} {
		var out bytes.Buffer
		teller := statusTeller{options: test.options, out: &out}
		var done bool
		var err error
		at := now
		for _, s := range test.steps {
			at = at.Add(s.after)
			done, _, err = teller.look(rolloutview.Facts{Deployment: s.d, Records: s.records}, s.after == 0, at)
		}
		if (done || err != nil) != test.done || (err != nil) != test.failed {
			t.Errorf("%s: done %v, %v", test.name, done, err)
		}
		for _, text := range test.says {
			if strings.Count(out.String(), text) != 1 {
				t.Errorf("%s: it does not say %q once:\n%s", test.name, text, out.String())
			}
		}
	}
}

func TestPauseAndRestart(t *testing.T) {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	if err := errors.Join(restart(d), pause(d)); err != nil || !d.Spec.Paused || len(d.Spec.Template.Annotations) != 1 {
		t.Fatalf("%v: %+v", err, d.Spec)
	}
	if pause(d) == nil || restart(d) == nil {
		t.Error("a paused Deployment can be paused and restarted")
	}
	if err := resume(d); err != nil || d.Spec.Paused || resume(d) == nil {
		t.Errorf("resumed: %v, %+v", err, d.Spec)
	}
}

// TestRestartLeavesARevision: what is said of a restart waits for the revision
// after the one that was left, as the generation is noted first.
func TestRestartLeavesARevision(t *testing.T) {
	before := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"deployment.kubernetes.io/revision": "4"}}}
	for name, c := range map[string]struct {
		change func(client.Object) error
		want   int64
	}{"restart": {restart, 4}, "pause": {pause, 0}} {
		after := before.DeepCopy()
		if err := c.change(after); err != nil {
			t.Fatal(err)
		}
		if got := left(before, after); got != c.want {
			t.Errorf("%s: left revision %d, want %d", name, got, c.want)
		}
	}
}
