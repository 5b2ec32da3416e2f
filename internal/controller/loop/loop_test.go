package loop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/rollout"
)

func TestNext(t *testing.T) {
	now := time.Unix(1000, 0)
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		err    error
		wakeAt time.Time
		want   time.Duration
		fails  bool
	}{
		{name: "nothing to wait for"},
		{name: "a moment that comes", wakeAt: now.Add(time.Second), want: time.Second},
		{name: "a moment that has passed", wakeAt: now.Add(-time.Second), want: time.Millisecond},
		{name: "old facts", err: fmt.Errorf("scale: %w", loop.ErrStale), wakeAt: now.Add(time.Second), want: loop.StaleRetry},
		{name: "a conflict", err: loop.Stale(apierrors.NewConflict(appsv1.Resource("replicasets"), "a", broken)), want: loop.StaleRetry},
		{name: "something that is gone", err: loop.Stale(apierrors.NewNotFound(appsv1.Resource("replicasets"), "a")), want: loop.StaleRetry},
		{name: "anything else", err: loop.Stale(broken), wakeAt: now.Add(time.Second), fails: true},
	} {
		got, err := loop.Next(t.Context(), c.err, c.wakeAt, now)
		if (err != nil) != c.fails || got != (ctrl.Result{RequeueAfter: c.want}) {
			t.Errorf("%s: %+v, %v; want a look after %v", c.name, got, err, c.want)
		}
	}
}

// TestAttempt: two names are taken, one after the other; the third plan has all.
func TestAttempt(t *testing.T) {
	api := fake.NewClientBuilder().WithObjects(podOf("", "a"), podOf("", "b")).Build()
	attempts := 0
	plan, err := loop.Attempt(func(taken []*corev1.Pod) (rollout.Plan, error) {
		attempts++
		for _, name := range []string{"a", "b"} {
			if !slices.ContainsFunc(taken, func(pod *corev1.Pod) bool { return pod.Name == name }) {
				return rollout.Plan{}, loop.WhoHas(t.Context(), api, types.NamespacedName{Namespace: "default", Name: name}, &corev1.Pod{})
			}
		}
		return rollout.Plan{WakeAt: time.Unix(1, 0)}, nil
	})
	if err != nil || attempts != 3 || plan.WakeAt.IsZero() {
		t.Errorf("%d attempts ended with %+v, %v", attempts, plan, err)
	}
}

// TestDependents: both owners of what changes hands are woken, one of what changes
// in a way that matters, none of what changes in another.
func TestDependents(t *testing.T) {
	handled := loop.Dependents(func(_ context.Context, pod *corev1.Pod, q loop.Queue) {
		loop.Wake(q, loop.Named(pod.Namespace, string(metav1.GetControllerOf(pod).UID)))
	}, func(before, after *corev1.Pod) bool { return before.Status.Phase != after.Status.Phase }).Handler()
	running := podOf("one", "a")
	running.Status.Phase = corev1.PodRunning
	for _, c := range []struct {
		before, after *corev1.Pod
		want          []string
	}{
		{podOf("one", "a"), podOf("two", "a"), []string{"one", "two"}},
		{podOf("one", "a"), running, []string{"one"}},
		{podOf("one", "a"), podOf("one", "a"), nil},
	} {
		if got := woken(handled, func(h handler.EventHandler, q loop.Queue) {
			h.Update(t.Context(), event.UpdateEvent{ObjectOld: c.before, ObjectNew: c.after}, q)
		}); !slices.Equal(got, c.want) {
			t.Errorf("woke %v, want %v", got, c.want)
		}
	}
}

// TestThose: requests are made for what which picks, of the namespace asked for.
func TestThose(t *testing.T) {
	elsewhere := podOf("", "a")
	elsewhere.Namespace = "elsewhere"
	cache := fake.NewClientBuilder().WithObjects(podOf("", "a"), podOf("", "b"), elsewhere).Build()
	got := loop.Those(t.Context(), cache, &corev1.PodList{}, func(pod *corev1.Pod) bool { return pod.Name == "a" }, client.InNamespace("default"))
	if !slices.Equal(got, []reconcile.Request{loop.Named("default", "a")}) {
		t.Errorf("got %v", got)
	}
	if got := loop.Those(t.Context(), cache, &corev1.PodList{}, loop.Any[*corev1.Pod]); len(got) != 3 {
		t.Errorf("of all, got %v", got)
	}
}

func podOf(owner types.UID, name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if owner != "" {
		pod.OwnerReferences = []metav1.OwnerReference{{UID: owner, Controller: ptr.To(true)}}
	}
	return pod
}

// woken returns the names that an event wakes.
func woken(h handler.EventHandler, tell func(handler.EventHandler, loop.Queue)) []string {
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer q.ShutDown()
	tell(h, q)
	var names []string
	for q.Len() > 0 {
		request, _ := q.Get()
		names = append(names, request.Name)
		q.Done(request)
	}
	return names
}
