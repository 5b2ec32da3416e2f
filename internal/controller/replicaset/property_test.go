package replicaset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"windlass.dev/windlass/internal/controller/controllertest"
	"windlass.dev/windlass/internal/rollout"
)

// TestNeverTwoPodsForOneNeed: whatever happens to the pods, however late the
// cache shows them and the set, whatever becomes of a write, and wherever a
// process dies and another takes over with a cache later still: no pod is made
// that the set, at a size that it had since, does not miss; none is deleted that
// is not too many; and in the end there are as many as there should be.
func TestNeverTwoPodsForOneNeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOrdeal(t)
		t.Repeat(map[string]func(*rapid.T){
			"reconcile": o.decide,
			"look":      o.catchUp,
			"see set":   o.seeSet,
			"time":      func(*rapid.T) { o.at = o.at.Add(unseenAfter + time.Second) },
			"take over": o.takeOverFrom,
			"resize":    o.changeSize,
			"fail":      func(t *rapid.T) { o.byHand(t, fail) },
			"delete":    func(t *rapid.T) { o.byHand(t, remove) },
			"relabel":   func(t *rapid.T) { o.byHand(t, relabel) },
			"ready":     o.becomeReady,
			"stop":      o.stop,
			"orphan":    o.orphan,
		})
		o.end(t)
	})
}

// ordeal is a bench whose cache comes to show one write after the other, and
// whose writes may fail.
type ordeal struct {
	*bench
	rs    *appsv1.ReplicaSet
	cache client.Client

	fates   controllertest.Fates
	history [][]corev1.Pod // the pods after each write
	shown   int            // the one that the cache shows

	sets []*appsv1.ReplicaSet // all versions; the cache shows the one that cachedSet is
	born int                  // the latest when the process took over

	// harmed are pods that the cache may still show as they were.
	harmed map[types.UID]bool
	made   int
}

const holds = "windlass.dev/stops-slowly"

func newOrdeal(t *rapid.T) *ordeal {
	o := &ordeal{rs: newReplicaSet(rapid.Int32Range(0, 6).Draw(t, "replicas")), harmed: map[types.UID]bool{}}
	o.rs.Spec.Template.Finalizers = []string{holds} // a pod that is deleted stays until it has stopped
	o.bench = newBench(t, replicaSets, o.rs)
	o.cache, o.api = o.client, versioned(o.api)
	o.live = o.api
	o.createPod = func(ctx context.Context, pod *corev1.Pod) error {
		return o.write(func() error { return o.makePod(ctx, pod) })
	}
	o.deletePod = func(ctx context.Context, pod client.Object, opts ...client.DeleteOption) error {
		return o.write(func() error { return o.api.Delete(ctx, pod, opts...) })
	}
	o.note()
	o.noteSet()
	o.cachedSet = o.sets[0]
	return o
}

// versioned makes an API's lists newer than all that is in them.
func versioned(api client.WithWatch) client.WithWatch {
	return interceptor.NewClient(api, interceptor.Funcs{
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			err := api.List(ctx, list, opts...)
			list.SetResourceVersion("1000000000")
			return err
		},
	})
}

// write does something with the fate that comes next.
func (o *ordeal) write(do func() error) error {
	return o.fates.Write(func() error {
		defer o.note()
		return do()
	})
}

func (o *ordeal) note() { o.history = append(o.history, o.pods()) }

func (o *ordeal) noteSet() {
	rs := &appsv1.ReplicaSet{}
	if err := o.api.Get(context.Background(), client.ObjectKeyFromObject(o.rs), rs); err != nil {
		o.t.Fatal(err)
	}
	if n := len(o.sets); n == 0 || o.sets[n-1].ResourceVersion != rs.ResourceVersion {
		o.sets = append(o.sets, rs)
	}
}

// catchUp has the cache show some of the writes that it does not show yet.
func (o *ordeal) catchUp(t *rapid.T) {
	o.showUpTo(rapid.IntRange(o.shown, len(o.history)-1).Draw(t, "to"))
}

func (o *ordeal) showUpTo(last int) {
	for ; o.shown < last; o.shown++ {
		after := o.history[o.shown+1]
		o.cached = after
		for i := range after {
			o.written.seen(&after[i])
		}
		for _, pod := range o.history[o.shown] {
			if !slices.ContainsFunc(after, func(p corev1.Pod) bool { return p.UID == pod.UID }) {
				o.written.gone(&pod)
			}
		}
	}
	if o.shown == len(o.history)-1 {
		clear(o.harmed)
	}
}

// seeSet has the cache show a later version of the set.
func (o *ordeal) seeSet(t *rapid.T) {
	o.cachedSet = o.sets[rapid.IntRange(slices.Index(o.sets, o.cachedSet), len(o.sets)-1).Draw(t, "version")]
}

// takeOverFrom ends the process and begins another, whose cache may show less.
func (o *ordeal) takeOverFrom(t *rapid.T) {
	o.shown = rapid.IntRange(0, len(o.history)-1).Draw(t, "pods")
	o.cached = o.history[o.shown]
	o.cachedSet = o.sets[len(o.sets)-1]
	if rapid.Bool().Draw(t, "old set") {
		o.cachedSet = o.sets[rapid.IntRange(0, len(o.sets)-1).Draw(t, "set")]
	}
	o.fates.Calm()
	o.born = len(o.sets) - 1
	for _, pod := range o.pods() {
		o.harmed[pod.UID] = !o.counts(&pod)
	}
	o.begin(replicaSets, o.cache)
	o.live = o.api
}

func (o *ordeal) decide(t *rapid.T) {
	o.fates.Draw(t)
	o.reconcileUnderRules(t)
}

func (o *ordeal) reconcileUnderRules(t *rapid.T) {
	before := o.pods()
	size, seen := int(*o.cachedSet.Spec.Replicas), slices.Index(o.sets, o.cachedSet)
	_, err := o.reconcile()
	o.noteSet() // with the status that it has now
	if err != nil && !errors.Is(err, controllertest.ErrLost) {
		t.Fatal(err)
	}
	made, deleted := 0, 0
	for _, pod := range o.pods() {
		was := slices.IndexFunc(before, func(p corev1.Pod) bool { return p.UID == pod.UID })
		switch {
		case was < 0:
			made++
		case before[was].DeletionTimestamp == nil && pod.DeletionTimestamp != nil:
			deleted++
		}
	}
	have, most := 0, 0
	for i := range before {
		switch mine := metav1.IsControlledBy(&before[i], o.rs); {
		case o.counts(&before[i]) && mine:
			have++
			most++
		case o.counts(&before[i]) && metav1.GetControllerOf(&before[i]) == nil, mine && o.harmed[before[i].UID]:
			most++ // it may be adopted, or be taken for one that is well
		}
	}
	if made > max(size-have, 0) {
		t.Fatalf("made %d pods where %d of %d were there", made, have, size)
	}
	if deleted > max(most-size, 0) {
		t.Fatalf("deleted %d pods where %d of %d were there", deleted, most, size)
	}
	if made+deleted > 0 && seen < o.born {
		t.Fatalf("acted on a set of before this process took over")
	}
}

// counts says whether a pod is one that the set counts, if it is the set's.
func (o *ordeal) counts(pod *corev1.Pod) bool {
	return rollout.StateOf(pod).Active && labels.SelectorFromSet(o.rs.Spec.Selector.MatchLabels).Matches(labels.Set(pod.Labels))
}

func (o *ordeal) changeSize(t *rapid.T) {
	o.resize(o.rs, rapid.Int32Range(0, 6).Draw(t, "replicas"))
	o.noteSet()
}

// byHand does something to a pod of the set that is well.
func (o *ordeal) byHand(t *rapid.T, do func(*ordeal, *corev1.Pod) error) {
	well := slices.DeleteFunc(o.pods(), func(pod corev1.Pod) bool { return !o.counts(&pod) })
	if len(well) == 0 {
		return
	}
	pod := &well[rapid.IntRange(0, len(well)-1).Draw(t, "which")]
	if err := do(o, pod); err != nil {
		t.Fatal(err)
	}
	o.harmed[pod.UID] = true
	o.note()
}

func fail(o *ordeal, pod *corev1.Pod) error {
	pod.Status.Phase = corev1.PodFailed
	return o.api.Status().Update(context.Background(), pod)
}

func relabel(o *ordeal, pod *corev1.Pod) error {
	pod.Labels["app"] = "isolated"
	return o.api.Update(context.Background(), pod)
}

func remove(o *ordeal, pod *corev1.Pod) error { return o.api.Delete(context.Background(), pod) }

// becomeReady makes pods differ in what they are worth.
func (o *ordeal) becomeReady(t *rapid.T) {
	well := slices.DeleteFunc(o.pods(), func(pod corev1.Pod) bool { return !o.counts(&pod) })
	if len(well) == 0 {
		return
	}
	pod := &well[rapid.IntRange(0, len(well)-1).Draw(t, "which")]
	ready(0)(pod)
	if err := o.api.Status().Update(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	o.note()
}

// stop lets a pod that was deleted be gone.
func (o *ordeal) stop(t *rapid.T) {
	going := slices.DeleteFunc(o.pods(), func(pod corev1.Pod) bool { return pod.DeletionTimestamp == nil })
	if len(going) == 0 {
		return
	}
	pod := &going[rapid.IntRange(0, len(going)-1).Draw(t, "which")]
	pod.Finalizers = nil
	if err := o.api.Update(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	o.note()
}

// orphan makes a pod that the set may adopt.
func (o *ordeal) orphan(t *rapid.T) {
	o.made++
	orphan := pod(fmt.Sprint("orphan-", o.made), o.rs, orphaned)
	orphan.Finalizers = []string{holds}
	if err := o.api.Create(context.Background(), orphan); err != nil {
		t.Fatal(err)
	}
	o.note()
}

// end calms everything: the cache is prompt and writes succeed.
func (o *ordeal) end(t *rapid.T) {
	o.fates.Calm()
	for range 10 {
		o.showUpTo(len(o.history) - 1)
		o.cachedSet = o.sets[len(o.sets)-1]
		o.at = o.at.Add(unseenAfter + time.Second)
		o.reconcileUnderRules(t)
		o.note()
	}
	n := 0
	for _, pod := range o.pods() {
		if o.counts(&pod) && metav1.IsControlledBy(&pod, o.rs) {
			n++
		}
	}
	if want := int(*o.cachedSet.Spec.Replicas); n != want {
		t.Fatalf("ended with %d pods, want %d", n, want)
	}
}
