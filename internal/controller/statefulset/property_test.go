package statefulset

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
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"windlass.dev/windlass/internal/controller/controllertest"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// TestAtMostOnePodOfAName: whatever happens to the pods, however late the cache
// shows them, the revisions and the set, whatever becomes of a write, and
// wherever a process dies and another takes over with a cache later still, and
// however long a node is cut off: a
// container of a pod runs only while its object is there and has not stopped, and
// never two of a name; a pod is deleted with its own grace period; no step takes
// more pods that serve than may be unavailable, as the API has it; in order, none
// is made before those below it are ready; no claim is deleted; and in the end
// all is as it should be.
func TestAtMostOnePodOfAName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOrdeal(t)
		t.Repeat(map[string]func(*rapid.T){
			"reconcile": o.decide,
			"look":      o.catchUp,
			"die":       o.takeOver,
			"resize":    o.resize,
			"roll":      o.roll,
			"delete":    func(t *rapid.T) { o.harm(t, func(pod *corev1.Pod) error { return o.api.Delete(ctx, pod) }) },
			"unready":   func(t *rapid.T) { o.harm(t, func(pod *corev1.Pod) error { return o.report(pod, false) }) },
			"ready":     o.ready,
			"ready too": o.ready,
			"stop":      o.stop,
			"cut":       o.cutOff,
			"heal":      func(*rapid.T) { clear(o.cut) },
		})
		o.end(t)
	})
}

var ctx = context.Background()

var now = time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)

// holds keeps the object of a pod until its node says that it has stopped.
const holds = "windlass.dev/stops-slowly"

// view is what there is at some time.
type view struct {
	set       *appsv1.StatefulSet
	pods      []corev1.Pod
	revisions []appsv1.ControllerRevision
	claims    []corev1.PersistentVolumeClaim
}

// ordeal is a reconciler with an API in memory, a cache that comes to show one
// write after the other, and writes that may fail.
type ordeal struct {
	*reconciler
	t   *rapid.T
	api client.WithWatch

	history []view // after each write
	shown   view   // by the cache
	at      int    // in history
	fates   controllertest.Fates
	cut     map[types.UID]bool // pods whose nodes nobody hears of: they run on, and nothing is reported of them
	uids    int
	version int
}

func newOrdeal(t *rapid.T) *ordeal {
	o := &ordeal{t: t, cut: map[types.UID]bool{}}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default", UID: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas:    ptr.To(rapid.Int32Range(0, 4).Draw(t, "replicas")),
			ServiceName: "db",
			Selector:    &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}, Finalizers: []string{holds}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "db", Image: "db:0"}}},
			},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}},
			PodManagementPolicy:  rapid.SampledFrom([]appsv1.PodManagementPolicyType{appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement}).Draw(t, "policy"),
		},
	}
	o.api = fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(set).
		WithStatusSubresource(&appsv1.StatefulSet{}, &corev1.Pod{}).Build()
	o.note()
	o.shown = o.history[0]
	o.begin()
	return o
}

// begin starts a process that knows nothing.
func (o *ordeal) begin() {
	cache := o.cache()
	o.reconciler = &reconciler{
		client: cache, live: o.api, recorder: record.NewFakeRecorder(100_000), written: &owned.Written{},
		now:  func() time.Time { return now },
		pods: owned.Listed(cache),
	}
}

// cache is a client that reads what the cache shows and writes to the API.
func (o *ordeal) cache() client.Client {
	return interceptor.NewClient(o.api, interceptor.Funcs{
		Get: func(_ context.Context, api client.WithWatch, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
			set, is := object.(*appsv1.StatefulSet)
			if !is {
				return apierrors.NewNotFound(corev1.Resource("namespaces"), key.Name)
			}
			o.shown.set.DeepCopyInto(set)
			return nil
		},
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			selector := (&client.ListOptions{}).ApplyOptions(opts).FieldSelector
			matches := func(object client.Object) bool {
				return selector == nil || slices.Contains(owned.ByController(object), selector.Requirements()[0].Value)
			}
			switch list := list.(type) {
			case *corev1.PodList:
				list.Items = those(o.shown.pods, matches)
			case *appsv1.ControllerRevisionList:
				list.Items = those(o.shown.revisions, matches)
			case *corev1.PersistentVolumeClaimList:
				list.Items = o.shown.claims
			}
			return nil
		},
		Create: func(ctx context.Context, api client.WithWatch, object client.Object, opts ...client.CreateOption) error {
			return o.write(func() error {
				o.uids++
				object.SetUID(types.UID(fmt.Sprint(object.GetName(), "#", o.uids)))
				return api.Create(ctx, object, opts...)
			})
		},
		Delete: func(ctx context.Context, api client.WithWatch, object client.Object, opts ...client.DeleteOption) error {
			if pod, is := object.(*corev1.Pod); is && (&client.DeleteOptions{}).ApplyOptions(opts).GracePeriodSeconds != nil {
				o.t.Fatalf("%s is deleted with a grace period that is not its own", pod.Name)
			}
			if _, is := object.(*corev1.PersistentVolumeClaim); is {
				o.t.Fatalf("claim %s is deleted", object.GetName())
			}
			return o.write(func() error { return o.deleteIf(object, opts) })
		},
		Patch: func(ctx context.Context, api client.WithWatch, object client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return o.write(func() error { return api.Patch(ctx, object, patch, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, api client.Client, name string, object client.Object, opts ...client.SubResourceUpdateOption) error {
			return o.write(func() error { return api.SubResource(name).Update(ctx, object, opts...) })
		},
	})
}

func those[T any, P interface {
	*T
	client.Object
}](items []T, which func(client.Object) bool) (out []T) {
	for i := range items {
		if which(P(&items[i])) {
			out = append(out, items[i])
		}
	}
	return out
}

// deleteIf deletes an object if it is as the preconditions say, which the API in
// memory does not look at.
func (o *ordeal) deleteIf(object client.Object, opts []client.DeleteOption) error {
	there := object.DeepCopyObject().(client.Object)
	if err := o.api.Get(ctx, client.ObjectKeyFromObject(object), there); err != nil {
		return err
	}
	must := (&client.DeleteOptions{}).ApplyOptions(opts).Preconditions
	if must == nil || must.UID == nil || must.ResourceVersion == nil {
		o.t.Fatalf("%s is deleted whatever has become of it", object.GetName())
	}
	if *must.UID != there.GetUID() || *must.ResourceVersion != there.GetResourceVersion() {
		return apierrors.NewConflict(corev1.Resource("pods"), object.GetName(), errors.New("precondition failed"))
	}
	return o.api.Delete(ctx, there)
}

// write does something with the fate that comes next.
func (o *ordeal) write(do func() error) error {
	return o.fates.Write(func() error {
		before := o.history[len(o.history)-1]
		err := do()
		o.note()
		o.check(before, o.history[len(o.history)-1])
		return err
	})
}

// check holds what a write did against the rules.
func (o *ordeal) check(before, after view) {
	set := before.set
	serving := func(pods []corev1.Pod, ordinal int32) bool {
		pod := byName(pods, fmt.Sprint("db-", ordinal))
		return pod != nil && rollout.StateOf(pod).Active && rollout.StateOf(pod).Ready
	}
	var was, is int32
	for i := range *set.Spec.Replicas {
		if serving(before.pods, i) {
			was++
		}
		if serving(after.pods, i) {
			is++
		}
	}
	if is < was && is < *set.Spec.Replicas-1 {
		o.t.Fatalf("%d of %d pods serve after a write, and %d before", is, *set.Spec.Replicas, was)
	}
	for i := range after.pods {
		pod := &after.pods[i]
		ordinal, _ := rollout.OrdinalOf("db", pod.Name)
		if byName(before.pods, pod.Name) != nil || set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement {
			continue
		}
		for below := range ordinal {
			if !serving(before.pods, below) {
				o.t.Fatalf("%s is made before db-%d is ready", pod.Name, below)
			}
		}
	}
	for i := range before.pods {
		pod := &before.pods[i]
		if now := byName(after.pods, pod.Name); now == nil || now.UID != pod.UID {
			o.t.Fatalf("%s is gone before its node has said so", pod.Name)
		}
	}
}

func byName(pods []corev1.Pod, name string) *corev1.Pod {
	for i := range pods {
		if pods[i].Name == name {
			return &pods[i]
		}
	}
	return nil
}

// note keeps what there is.
func (o *ordeal) note() {
	v := view{set: &appsv1.StatefulSet{}}
	var pods corev1.PodList
	var revisions appsv1.ControllerRevisionList
	var claims corev1.PersistentVolumeClaimList
	if err := errors.Join(o.api.Get(ctx, client.ObjectKey{Namespace: "default", Name: "db"}, v.set),
		o.api.List(ctx, &pods), o.api.List(ctx, &revisions), o.api.List(ctx, &claims)); err != nil {
		o.t.Fatal(err)
	}
	v.pods, v.revisions, v.claims = pods.Items, revisions.Items, claims.Items
	o.history = append(o.history, v)
}

// catchUp has the cache show more: of the kinds, each as it was at a time of its own.
func (o *ordeal) catchUp(t *rapid.T) { o.show(t, o.at) }

func (o *ordeal) show(t *rapid.T, from int) {
	last := len(o.history) - 1
	o.at = rapid.IntRange(from, last).Draw(t, "to")
	at := func(what string) view { return o.history[rapid.IntRange(o.at, last).Draw(t, what)] }
	o.shown = view{set: at("set").set, pods: at("pods").pods, revisions: at("revisions").revisions, claims: at("claims").claims}
}

// takeOver ends the process and begins another, whose cache may show less.
func (o *ordeal) takeOver(t *rapid.T) {
	o.fates.Calm()
	o.show(t, 0)
	o.begin()
}

func (o *ordeal) decide(t *rapid.T) {
	o.t = t
	o.fates.Draw(t)
	o.reconcile(t)
}

func (o *ordeal) reconcile(t *rapid.T) {
	_, err := o.Reconcile(ctx, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "default", Name: "db"}})
	if err != nil && !errors.Is(err, controllertest.ErrLost) {
		t.Fatal(err)
	}
}

func (o *ordeal) edit(change func(*appsv1.StatefulSet)) {
	set := o.history[len(o.history)-1].set.DeepCopy()
	change(set)
	if err := o.api.Update(ctx, set); err != nil {
		o.t.Fatal(err)
	}
	o.note()
}

func (o *ordeal) resize(t *rapid.T) {
	n := rapid.Int32Range(0, 4).Draw(t, "replicas")
	o.edit(func(set *appsv1.StatefulSet) { set.Spec.Replicas = &n })
}

func (o *ordeal) roll(t *rapid.T) {
	o.version = rapid.IntRange(0, 3).Draw(t, "image")
	o.edit(func(set *appsv1.StatefulSet) {
		set.Spec.Template.Spec.Containers[0].Image = fmt.Sprint("db:", o.version)
	})
}

// harm does something to a pod that is active.
func (o *ordeal) harm(t *rapid.T, do func(*corev1.Pod) error) {
	o.each(t, 1, func(pod *corev1.Pod) bool { return rollout.StateOf(pod).Active }, do)
}

// each does something to some of the pods.
func (o *ordeal) each(t *rapid.T, most int, which func(*corev1.Pod) bool, do func(*corev1.Pod) error) {
	pods := slices.DeleteFunc(slices.Clone(o.history[len(o.history)-1].pods), func(pod corev1.Pod) bool { return !which(&pod) })
	for range min(most, len(pods)) {
		pod := &pods[rapid.IntRange(0, len(pods)-1).Draw(t, "which")]
		if err := do(pod.DeepCopy()); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		o.note()
	}
}

func (o *ordeal) report(pod *corev1.Pod, ready bool) error {
	status := map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[ready]
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(now)},
	}}
	return o.api.Status().Update(ctx, pod)
}

// cutOff has nobody hear of a pod's node: others say that it is not ready, and
// evict it or not.
func (o *ordeal) cutOff(t *rapid.T) {
	o.harm(t, func(pod *corev1.Pod) error {
		o.cut[pod.UID] = true
		if err := o.report(pod, false); err != nil || !rapid.Bool().Draw(t, "evicted") {
			return err
		}
		return o.api.Delete(ctx, pod)
	})
}

func (o *ordeal) ready(t *rapid.T) {
	waits := func(pod *corev1.Pod) bool {
		s := rollout.StateOf(pod)
		return s.Active && !s.Ready && !o.cut[pod.UID]
	}
	o.each(t, 2, waits, func(pod *corev1.Pod) error { return o.report(pod, true) })
}

// stop lets a pod that was deleted be gone.
func (o *ordeal) stop(t *rapid.T) {
	o.each(t, 2, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil && !o.cut[pod.UID] }, func(pod *corev1.Pod) error {
		pod.Finalizers = nil
		return o.api.Update(ctx, pod)
	})
}

// end calms everything: the cache is prompt, writes succeed, nodes do their work.
func (o *ordeal) end(t *rapid.T) {
	o.t = t
	o.fates.Calm()
	clear(o.cut)
	for range 60 {
		o.at = len(o.history) - 1
		o.shown = o.history[o.at]
		o.reconcile(t)
		for _, pod := range o.history[len(o.history)-1].pods {
			if pod.DeletionTimestamp != nil {
				pod.Finalizers = nil
				_ = o.api.Update(ctx, &pod)
			} else if !rollout.StateOf(&pod).Ready {
				_ = o.report(&pod, true)
			}
		}
		o.note()
	}
	last := o.history[len(o.history)-1]
	if n := int(*last.set.Spec.Replicas); len(last.pods) != n {
		t.Fatalf("ended with %d pods, want %d", len(last.pods), n)
	}
	for _, pod := range last.pods {
		if pod.Spec.Containers[0].Image != fmt.Sprint("db:", o.version) {
			t.Fatalf("%s ended with %s, want version %d", pod.Name, pod.Spec.Containers[0].Image, o.version)
		}
	}
	revisions := map[string]bool{}
	for i := range last.revisions {
		template, err := rollout.TemplateOf(&last.revisions[i])
		if err != nil || revisions[template.Spec.Containers[0].Image] {
			t.Fatalf("%v, or two revisions of %s", err, template.Spec.Containers[0].Image)
		}
		revisions[template.Spec.Containers[0].Image] = true
	}
}
