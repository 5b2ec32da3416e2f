package replicaset

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/internal/controller/owned"
)

// bench is a reconciler with an API in memory and a cache whose view of the pods
// stands still until look is called.
type bench struct {
	*reconciler
	t      failer
	api    client.WithWatch
	cached []corev1.Pod
	events *record.FakeRecorder
	at     time.Time

	// cachedSet is the set as the cache shows it; nil when it is up to date.
	cachedSet *appsv1.ReplicaSet

	// createPod and deletePod replace those acts when they are set.
	createPod func(ctx context.Context, pod *corev1.Pod) error
	deletePod func(ctx context.Context, pod client.Object, opts ...client.DeleteOption) error
}

// failer is a test, or a property under check.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newBench(t failer, kind kind, objects ...client.Object) *bench {
	b := &bench{t: t, at: now, events: record.NewFakeRecorder(10000)}
	builder := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(objects...).
		WithStatusSubresource(&appsv1.ReplicaSet{}, &corev1.ReplicationController{}, &corev1.Pod{})
	for _, object := range []client.Object{&appsv1.ReplicaSet{}, &corev1.ReplicationController{}} {
		builder = builder.WithIndex(object, controllerIndex, owned.ByController)
	}
	builder = builder.WithIndex(&corev1.Pod{}, owned.Index, owned.ByController)
	b.api = builder.Build()
	cache := interceptor.NewClient(b.api, interceptor.Funcs{
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			pods, ok := list.(*corev1.PodList)
			if !ok {
				return api.List(ctx, list, opts...)
			}
			selector := (&client.ListOptions{}).ApplyOptions(opts).FieldSelector
			for _, pod := range b.cached {
				if selector == nil || slices.Contains(owned.ByController(&pod), selector.Requirements()[0].Value) {
					pods.Items = append(pods.Items, pod)
				}
			}
			return nil
		},
		Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
			if rs, is := object.(*appsv1.ReplicaSet); is && b.cachedSet != nil {
				b.cachedSet.DeepCopyInto(rs)
				return nil
			}
			return api.Get(ctx, key, object, opts...)
		},
		Create: func(ctx context.Context, api client.WithWatch, object client.Object, opts ...client.CreateOption) error {
			pod := object.(*corev1.Pod)
			if b.createPod != nil {
				return b.createPod(ctx, pod)
			}
			return b.makePod(ctx, pod)
		},
		Delete: func(ctx context.Context, api client.WithWatch, object client.Object, opts ...client.DeleteOption) error {
			if b.deletePod != nil {
				return b.deletePod(ctx, object, opts...)
			}
			return api.Delete(ctx, object, opts...)
		},
	})
	b.begin(kind, cache)
	return b
}

// begin starts a process that knows nothing.
func (b *bench) begin(kind kind, cache client.Client) {
	b.reconciler = &reconciler{
		kind: kind, client: cache, pods: owned.Listed(cache), live: b.api, recorder: b.events, random: rand.IntN, written: newMemory(),
		now: func() time.Time { return b.at },
	}
}

func (b *bench) makePod(ctx context.Context, pod *corev1.Pod) error {
	pod.UID = types.UID("uid-of-" + pod.Name)
	return b.api.Create(ctx, pod)
}

// look brings the cache up to date, and says so to the reconciler as its watch
// would.
func (b *bench) look() {
	b.t.Helper()
	before := b.cached
	b.cached = b.pods()
	for i := range b.cached {
		b.written.seen(&b.cached[i])
	}
	for i := range before {
		if !slices.ContainsFunc(b.cached, func(p corev1.Pod) bool { return p.UID == before[i].UID }) {
			b.written.gone(&before[i])
		}
	}
}

func (b *bench) pods() []corev1.Pod {
	b.t.Helper()
	var list corev1.PodList
	if err := b.api.List(context.Background(), &list); err != nil {
		b.t.Fatal(err)
	}
	return list.Items
}

func (b *bench) reconcile() (ctrl.Result, error) {
	ctx := log.IntoContext(context.Background(), logr.Discard())
	return b.Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "default", Name: "httpd"}})
}

func (b *bench) mustReconcile() ctrl.Result {
	b.t.Helper()
	result, err := b.reconcile()
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

func (b *bench) wantPods(n int) {
	b.t.Helper()
	if got := len(b.pods()); got != n {
		b.t.Fatalf("%d pods, want %d", got, n)
	}
}

func (b *bench) resize(rs *appsv1.ReplicaSet, replicas int32) {
	b.t.Helper()
	if err := b.api.Get(context.Background(), client.ObjectKeyFromObject(rs), rs); err != nil {
		b.t.Fatal(err)
	}
	rs.Spec.Replicas = &replicas
	if err := b.api.Update(context.Background(), rs); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) recorded() []string {
	var out []string
	for len(b.events.Events) > 0 {
		out = append(out, <-b.events.Events)
	}
	return out
}

func TestNoPodIsMadeTwiceWhileTheCacheIsLate(t *testing.T) {
	b := newBench(t, replicaSets, newReplicaSet(5))
	for range 3 {
		b.mustReconcile()
		b.wantPods(5)
	}
	b.look()
	b.mustReconcile()
	b.wantPods(5)
	var rs appsv1.ReplicaSet
	if err := b.api.Get(context.Background(), client.ObjectKey{Namespace: "default", Name: "httpd"}, &rs); err != nil {
		t.Fatal(err)
	}
	if rs.Status.Replicas != 5 || rs.Status.FullyLabeledReplicas != 5 || rs.Status.ObservedGeneration != rs.Generation {
		t.Errorf("status %+v", rs.Status)
	}
	for _, event := range b.recorded() {
		if !strings.HasPrefix(event, "Normal SuccessfulCreate Created pod: httpd-") {
			t.Errorf("event %q", event)
		}
	}
}

func TestNoPodIsDeletedTooManyWhileTheCacheIsLate(t *testing.T) {
	rs := newReplicaSet(5)
	b := newBench(t, replicaSets, rs)
	b.mustReconcile()
	b.look()
	b.resize(rs, 3)
	for range 3 {
		b.mustReconcile()
		b.wantPods(3)
	}
	b.resize(rs, 4) // the cache still shows five
	for range 3 {
		b.mustReconcile()
		b.wantPods(4)
	}
	b.look()
	b.mustReconcile()
	b.wantPods(4)
}

func TestPodsThatTheCacheHasNotShownAreDeleted(t *testing.T) {
	rs := newReplicaSet(5)
	b := newBench(t, replicaSets, rs)
	b.mustReconcile()
	b.resize(rs, 1)
	b.mustReconcile()
	b.wantPods(1)
	b.mustReconcile()
	b.wantPods(1)
}

func TestACreateWithoutAnAnswer(t *testing.T) {
	lost := errors.New("connection lost")
	for _, arrived := range []bool{true, false} {
		t.Run(fmt.Sprintf("arrived=%v", arrived), func(t *testing.T) {
			b := newBench(t, replicaSets, newReplicaSet(1))
			b.createPod = func(ctx context.Context, pod *corev1.Pod) error {
				if arrived {
					if err := b.makePod(ctx, pod.DeepCopy()); err != nil {
						t.Fatal(err)
					}
				}
				return lost
			}
			if _, err := b.reconcile(); !errors.Is(err, lost) {
				t.Fatalf("want the error, not %v", err)
			}
			b.createPod = nil
			made := len(b.pods())
			if result := b.mustReconcile(); result.RequeueAfter != unseenAfter {
				t.Errorf("look again after %s", result.RequeueAfter)
			}
			b.wantPods(made)
			b.at = b.at.Add(unseenAfter + time.Second)
			b.mustReconcile()
			b.wantPods(1)
		})
	}
}

func TestAPodThatCameAndWentUnseenIsReplaced(t *testing.T) {
	b := newBench(t, replicaSets, newReplicaSet(1))
	b.mustReconcile()
	if err := b.api.DeleteAllOf(context.Background(), &corev1.Pod{}, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	b.mustReconcile()
	b.wantPods(0)
	b.at = b.at.Add(unseenAfter + time.Second)
	b.mustReconcile()
	b.wantPods(1)
}

func TestARefusedCreateIsReported(t *testing.T) {
	b := newBench(t, replicaSets, newReplicaSet(10))
	refusals := 0
	b.createPod = func(_ context.Context, pod *corev1.Pod) error {
		refusals++
		return apierrors.NewForbidden(corev1.Resource("pods"), pod.Name, errors.New("exceeded quota"))
	}
	if _, err := b.reconcile(); !apierrors.IsForbidden(err) {
		t.Fatal(err)
	}
	if refusals != 1 {
		t.Errorf("%d attempts after the first was refused", refusals-1)
	}
	failure := func() *Failure {
		set, err := b.read(context.Background(), types.NamespacedName{Namespace: "default", Name: "httpd"})
		if err != nil {
			t.Fatal(err)
		}
		return set.Status.Failure
	}
	if f := failure(); f == nil || f.Reason != ReasonFailedCreate || !strings.Contains(f.Message, "exceeded quota") {
		t.Fatalf("condition %+v", f)
	}
	if events := b.recorded(); len(events) != 1 || !strings.HasPrefix(events[0], "Warning FailedCreate Error creating: pods ") {
		t.Errorf("events %q", events)
	}
	b.createPod = nil
	b.mustReconcile()
	b.wantPods(10)
	if f := failure(); f != nil {
		t.Errorf("it is over: %+v", f)
	}
}

func TestATakenNameIsReplaced(t *testing.T) {
	rs := newReplicaSet(1)
	b := newBench(t, replicaSets, rs, pod("httpd-bbbbb", rs, foreign))
	b.look()
	calls := 0
	b.random = func(n int) int { calls++; return calls / 7 % n }
	b.mustReconcile()
	b.wantPods(2)
}

func TestAdoptionAndRelease(t *testing.T) {
	rs := newReplicaSet(2)
	b := newBench(t, replicaSets, rs, pod("orphan", rs, orphaned), pod("relabeled", rs, relabeled))
	b.look()
	b.mustReconcile()
	b.look()
	b.mustReconcile()
	b.wantPods(3)
	for _, p := range b.pods() {
		if mine := metav1.IsControlledBy(&p, rs); mine == (p.Name == "relabeled") {
			t.Errorf("%s controlled: %v", p.Name, mine)
		}
	}
}

func TestNoAdoptionByASetThatIsGoing(t *testing.T) {
	rs := newReplicaSet(1)
	stale := rs.DeepCopy()
	rs.DeletionTimestamp, rs.Finalizers = &metav1.Time{Time: now}, []string{"orphan"}
	b := newBench(t, replicaSets, rs, pod("orphan", rs, orphaned))
	b.look()
	if err := b.claim(context.Background(), setOf(t, stale), Plan{Adopt: []*corev1.Pod{&b.cached[0]}}); err == nil {
		t.Error("adopted")
	}
	if metav1.GetControllerOf(&b.pods()[0]) != nil {
		t.Error("adopted")
	}
}

func TestReplicationController(t *testing.T) {
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "httpd", Namespace: "default", UID: "rc"}}
	rs := newReplicaSet(3)
	rc.Spec.Replicas, rc.Spec.Template = rs.Spec.Replicas, &rs.Spec.Template
	b := newBench(t, replicationControllers, rc)
	b.mustReconcile()
	b.wantPods(3)
	b.look()
	b.mustReconcile()
	if err := b.api.Get(context.Background(), client.ObjectKeyFromObject(rc), rc); err != nil {
		t.Fatal(err)
	}
	if rc.Status.Replicas != 3 || !metav1.IsControlledBy(&b.pods()[0], rc) {
		t.Errorf("status %+v", rc.Status)
	}
}

func TestSlowStart(t *testing.T) {
	for _, test := range []struct{ n, failAt, want int }{{0, -1, 0}, {1, -1, 1}, {100, -1, 100}, {100, 0, 1}, {100, 1, 3}, {100, 6, 7}} {
		calls := make(chan int, 100)
		err := slowStart(test.n, func(i int) error {
			calls <- i
			if i == test.failAt {
				return errors.New("refused")
			}
			return nil
		})
		if (err != nil) != (test.failAt >= 0) || len(calls) != test.want {
			t.Errorf("%+v: %d calls, error %v", test, len(calls), err)
		}
	}
}
