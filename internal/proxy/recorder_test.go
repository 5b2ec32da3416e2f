package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"windlass.dev/windlass/api/v1alpha1"
)

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	return s
}

// recording is a recorder that runs in a bubble of time, over a kernel in memory.
type recording struct {
	t        *testing.T
	client   client.Client
	kernel   *Memory
	counters *failingCounters
	leaving  atomic.Bool // whether pods of default/web are
	refuse   atomic.Bool // writes
	writes   atomic.Int64
	handler  toolscache.ResourceEventHandler
	stop     func()
}

func newRecording(t *testing.T) *recording {
	r := &recording{t: t, kernel: NewMemory()}
	r.counters = &failingCounters{Counters: r.kernel}
	set(t, NewTable(r.kernel), Compile(State{Node: testNode}))
	r.client = fake.NewClientBuilder().WithScheme(testScheme(t)).WithStatusSubresource(&v1alpha1.RolloutRecord{}).WithInterceptorFuncs(interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			if r.refuse.Load() {
				return errors.New("no API now")
			}
			r.writes.Add(1)
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
	}).Build()
	r.start()
	return r
}

// start runs a new recorder, as after a restart of the process.
func (r *recording) start() {
	owners := map[string]string{"10.43.0.1:80": "default/web", "10.43.0.2:80": "default/other"}
	meter := newMeter(r.counters, func(way netip.AddrPort) string { return owners[way.String()] })
	recorder := newRecorder(Config{Client: r.client, NodeName: "here"}, meter.read, func(s string) bool { return s == "default/web" && r.leaving.Load() }, slog.New(slog.DiscardHandler))
	r.handler = recorder.handler()
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	go func() { recorder.run(ctx); close(ended) }()
	r.stop = func() { cancel(); <-ended }
}

func (r *recording) create(services ...string) {
	r.t.Helper()
	record := &v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-2"}, Spec: v1alpha1.RolloutRecordSpec{Services: services}}
	if err := r.client.Create(r.t.Context(), record); err != nil {
		r.t.Fatal(err)
	}
	r.handler.OnAdd(record, false)
	synctest.Wait()
}

// phase sets the phase of the record, and the time of an outcome.
func (r *recording) phase(phase v1alpha1.RolloutPhase) {
	r.t.Helper()
	record := r.record()
	record.Status.Phase = phase
	if phase.Over() {
		now := metav1.NowMicro()
		record.Status.EndedAt = &now
	}
	if err := r.client.Status().Update(r.t.Context(), record); err != nil {
		r.t.Fatal(err)
	}
	r.handler.OnUpdate(record, record)
	synctest.Wait()
}

func (r *recording) record() *v1alpha1.RolloutRecord {
	r.t.Helper()
	var record v1alpha1.RolloutRecord
	if err := r.client.Get(r.t.Context(), client.ObjectKey{Namespace: "default", Name: "web-2"}, &record); err != nil {
		r.t.Fatal(err)
	}
	return &record
}

func (r *recording) send(way string, n int64) {
	r.kernel.Send(Path{netip.MustParseAddrPort(way), netip.MustParseAddrPort("10.42.0.5:80")}, connections(n))
}

func (r *recording) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *recording) expect(what string, want int64, writes int64) {
	r.t.Helper()
	record := r.record()
	if got, ok := record.Status.Traffic["here"]; got.Connections != want || !ok && want > 0 {
		r.t.Errorf("%s: the record says %+v, want %d", what, record.Status.Traffic, want)
	}
	if got := r.writes.Load(); got != writes {
		r.t.Errorf("%s: %d writes, want %d", what, got, writes)
	}
}

// TestRecordTraffic follows one rollout from before its record to long after.
func TestRecordTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecording(t)
		defer func() { r.stop() }()
		r.send("10.43.0.1:80", 100)
		r.wait(time.Minute)
		if n := r.counters.reads.Load(); n > 0 {
			t.Errorf("read %d times while no rollout runs", n)
		}
		r.create("web")
		r.expect("nothing new", 0, 0)
		r.send("10.43.0.1:80", 3)
		r.send("10.43.0.2:80", 50) // another Service
		r.wait(writeEvery)
		r.expect("its Service", 3, 1)
		for range 30 {
			r.send("10.43.0.1:80", 1)
			r.wait(100 * time.Millisecond)
		}
		r.expect("at most once a second", 33, 4)
		r.phase(v1alpha1.RolloutPaused)
		r.wait(10 * time.Second)
		r.expect("only when changed", 33, 4)

		r.leaving.Store(true)
		r.phase(v1alpha1.RolloutCompleted)
		r.send("10.43.0.1:80", 1)
		r.wait(10 * time.Second)
		r.send("10.43.0.1:80", 1)
		r.wait(10 * time.Second)
		r.expect("while pods leave", 35, 6)
		r.send("10.43.0.1:80", 1)
		r.leaving.Store(false)
		r.wait(writeEvery)
		r.expect("the last value", 36, 7)
		reads := r.counters.reads.Load()
		r.send("10.43.0.1:80", 1)
		r.wait(time.Minute)
		r.expect("after the end", 36, 7)
		if n := r.counters.reads.Load() - reads; n > 0 {
			t.Errorf("read %d times after the end", n)
		}
		if r.record().Status.Phase != v1alpha1.RolloutCompleted {
			t.Errorf("the rest of the status is %+v", r.record().Status)
		}
	})
}

// TestRecordGoesOn: after a restart the count goes on from what the record has,
// and what could not be written or read is written later.
func TestRecordGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecording(t)
		defer func() { r.stop() }()
		r.create("web", "other")
		r.send("10.43.0.1:80", 3)
		r.send("10.43.0.2:80", 2)
		r.wait(writeEvery)
		r.expect("both Services", 5, 1)
		r.stop()
		r.start()
		r.handler.OnAdd(r.record(), true)
		r.wait(5 * time.Second)
		r.expect("after a restart", 5, 1)
		r.send("10.43.0.1:80", 4)
		r.wait(writeEvery)
		r.expect("new traffic after a restart", 9, 2)

		r.kernel.Flush()
		set(t, NewTable(r.kernel), Compile(State{Node: testNode}))
		r.send("10.43.0.1:80", 1)
		r.wait(writeEvery)
		r.expect("counters at zero again", 10, 3)

		r.refuse.Store(true)
		r.send("10.43.0.1:80", 1)
		r.wait(5 * time.Second)
		r.expect("writes refused", 10, 3)
		r.refuse.Store(false)
		r.counters.fail.Store(true)
		r.phase(v1alpha1.RolloutFailed)
		r.wait(5 * time.Second)
		r.expect("reads refused", 10, 3)
		r.counters.fail.Store(false)
		r.wait(writeEvery)
		r.expect("the last value", 11, 4)
	})
}

// TestRecordWithoutTraffic: a node that saw none says so once, at the end; for a
// rollout without a Service there is nothing to say, nor for a record that is gone.
func TestRecordWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecording(t)
		defer func() { r.stop() }()
		r.create("web")
		r.wait(10 * time.Second)
		r.expect("no traffic", 0, 0)
		r.phase(v1alpha1.RolloutCompleted)
		r.wait(settleTime + writeEvery)
		r.expect("no traffic at the end", 0, 1)
		if _, ok := r.record().Status.Traffic["here"]; !ok {
			t.Error("the node says nothing at the end")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRecording(t)
		defer func() { r.stop() }()
		r.create()
		r.wait(10 * time.Second)
		if n := r.counters.reads.Load(); n > 0 {
			t.Errorf("read %d times for a rollout without a Service", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRecording(t)
		defer func() { r.stop() }()
		r.create("web")
		r.send("10.43.0.1:80", 1)
		r.handler.OnDelete(toolscache.DeletedFinalStateUnknown{Obj: r.record()})
		r.wait(10 * time.Second)
		r.expect("deleted", 0, 0)
	})
}
