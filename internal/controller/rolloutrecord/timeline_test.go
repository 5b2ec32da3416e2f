package rolloutrecord

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
)

func TestRefined(t *testing.T) {
	second := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		seen time.Duration // after the second; -1 for not at all
		want time.Duration
	}{
		{"not seen", -1, 0},
		{"seen in time", 700 * time.Millisecond, 700 * time.Millisecond},
		{"seen at the edge", grain, grain},
		{"seen too late", grain + time.Millisecond, 0},
		{"seen before", -time.Minute, 0},
	} {
		seen := time.Time{}
		if c.seen != -1 {
			seen = second.Add(c.seen)
		}
		if got := refined(second, seen).Sub(second); got != c.want {
			t.Errorf("%s: %s after the second, want %s", c.name, got, c.want)
		}
	}
	if got := refined(time.Time{}, second); got != nil {
		t.Errorf("seen, but not reported: %s", got)
	}
}

// A pod may be recorded before the watch tells that it was seen: the moment is put
// right then, once.
func TestSeenAfterRecorded(t *testing.T) {
	second := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	pod := Pod{Pod: &corev1.Pod{}}
	pod.CreationTimestamp = metav1.NewTime(second)
	was := v1alpha1.PodTimeline{}
	for _, c := range []struct{ seen, want time.Duration }{
		{0, 0}, {800 * time.Millisecond, 800 * time.Millisecond}, {900 * time.Millisecond, 800 * time.Millisecond},
	} {
		if c.seen != 0 {
			pod.Seen.Created = second.Add(c.seen)
		}
		was, _ = timelineOf(pod, "web-1", 0, was, second.Add(time.Second))
		if got := was.Created.Sub(second); got != c.want {
			t.Errorf("seen %s after the second: created %s after it, want %s", c.seen, got, c.want)
		}
	}
}

func TestStopRequested(t *testing.T) {
	asked := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		end   time.Time // the deletion timestamp
		grace int64
		seen  time.Time
		want  time.Time
	}{
		{"as the pod says", asked.Add(30 * time.Second), 30, time.Time{}, asked},
		{"as it was seen", asked.Add(30 * time.Second), 30, asked.Add(200 * time.Millisecond), asked.Add(200 * time.Millisecond)},
		{"a second deletion without grace", asked.Add(8 * time.Second), 0, asked.Add(200 * time.Millisecond), asked.Add(200 * time.Millisecond)},
	} {
		pod := Pod{Pod: &corev1.Pod{}, Seen: Seen{Deleted: c.seen}}
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(c.end)), &c.grace
		if got := stopRequested(pod); !got.Time.Equal(c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A pod's moments come from three clocks: they are told in their order.
func TestMomentsAreInOrder(t *testing.T) {
	second := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	at := func(ms int) *metav1.MicroTime { return moment(second.Add(time.Duration(ms) * time.Millisecond)) }
	for _, c := range []struct {
		name      string
		was, want v1alpha1.PodTimeline
	}{
		{"nothing is known", v1alpha1.PodTimeline{}, v1alpha1.PodTimeline{}},
		{"as it should be", v1alpha1.PodTimeline{Created: at(1), Scheduled: at(2), ImageReady: at(3), StopRequested: at(4), EndpointRemoved: at(5)},
			v1alpha1.PodTimeline{Created: at(1), Scheduled: at(2), ImageReady: at(3), StopRequested: at(4), EndpointRemoved: at(5)}},
		{"in whole seconds", v1alpha1.PodTimeline{Created: at(900), Scheduled: at(0), ImageReady: at(950)},
			v1alpha1.PodTimeline{Created: at(900), Scheduled: at(900), ImageReady: at(950)}},
		{"seen late", v1alpha1.PodTimeline{Created: at(30), Scheduled: at(40), ImageReady: at(20), StopRequested: at(70), EndpointRemoved: at(60)},
			v1alpha1.PodTimeline{Created: at(20), Scheduled: at(20), ImageReady: at(20), StopRequested: at(60), EndpointRemoved: at(60)}},
		{"not scheduled", v1alpha1.PodTimeline{Created: at(30)}, v1alpha1.PodTimeline{Created: at(30)}},
	} {
		if order(&c.was); !reflect.DeepEqual(c.was, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, c.was, c.want)
		}
	}
}

func TestStartedAt(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC))
	running := corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}}}
	later := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: metav1.NewTime(at.Add(time.Minute))}}}
	waiting := corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}}
	again := running
	again.RestartCount = 1
	for _, c := range []struct {
		name     string
		statuses []corev1.ContainerStatus
		want     time.Time
	}{
		{"no status yet", nil, time.Time{}},
		{"one of two", []corev1.ContainerStatus{running}, time.Time{}},
		{"one waits", []corev1.ContainerStatus{running, waiting}, time.Time{}},
		{"both", []corev1.ContainerStatus{later, running}, at.Add(time.Minute)},
		{"one was restarted", []corev1.ContainerStatus{running, again}, time.Time{}},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: make([]corev1.Container, 2)}, Status: corev1.PodStatus{ContainerStatuses: c.statuses}}
		if got := startedAt(pod); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// FuzzMoments reads what any process that may write a pod's status can leave
// there: the timeline that comes of it can be stored and read back.
func FuzzMoments(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[]", `{"ready":"2026-05-04T10:00:00.000001Z","note":"x"}`, `{"ready":"2026-05-04"}`, `{"ready":null,"attempts":3}`,
		`{"stopped":"9999-12-31T23:59:59.999999Z"}`, `{"ready":"0000-01-01T00:00:00.000000Z"}`, `{"note":"\ud800\n"}`, `{"ready":`, `{"ready":"x","note":"kept?"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, annotation string) {
		moments, err := parseMoments(annotation)
		if err != nil && !reflect.DeepEqual(moments, v1alpha1.PodMoments{}) {
			t.Fatalf("an error, and yet %+v", moments)
		}
		pod := Pod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{v1alpha1.AnnotationMoments: annotation, v1alpha1.AnnotationChangedBy: annotation}}}}
		timeline, _ := timelineOf(pod, "set", 0, v1alpha1.PodTimeline{}, time.Unix(0, 0))
		if len(timeline.Note) > maxNote || !utf8.ValidString(timeline.Note) {
			t.Fatalf("a note of %d bytes", len(timeline.Note))
		}
		parseAuthor(annotation)
		encoded, err := json.Marshal(timeline)
		if err != nil {
			t.Fatalf("cannot be stored: %v", err)
		}
		var back v1alpha1.PodTimeline
		if err := json.Unmarshal(encoded, &back); err != nil {
			t.Fatalf("cannot be read back: %v", err)
		}
	})
}

func TestBounded(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"short", "short"},
		{strings.Repeat("x", 10), strings.Repeat("x", 10)},
		{strings.Repeat("x", 11), strings.Repeat("x", 7) + "…"},
		{"xxxxxxäää", "xxxxxx…"},
		{"a\xff", "a?"},
	} {
		if got := bounded(c.in, 10); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

// TestOwnStatus holds the patch to the type: a field that is new there must be
// written here, or be somebody else's.
func TestOwnStatus(t *testing.T) {
	own := map[string]bool{}
	for i, of := 0, reflect.TypeFor[ownStatus](); i < of.NumField(); i++ {
		own[of.Field(i).Tag.Get("json")] = true
	}
	for i, of := 0, reflect.TypeFor[v1alpha1.RolloutRecordStatus](); i < of.NumField(); i++ {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if own[name] == (name == "traffic") {
			t.Errorf("status.%s: written %v", name, own[name])
		}
	}
}
