package persistentvolume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"pgregory.net/rapid"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

var errCrash = errors.New("the process ends here")

// world is an API, a cache of each kind that may be far behind it, and the
// controllers, which may end after any write.
type world struct {
	t      *rapid.T
	live   client.Client
	cache  map[string]client.ObjectList // by kind, as last delivered
	old    client.Reader                // of the cache; nil until it is read
	writes int                          // that are let through before the crash
	made   int
	had    map[types.UID]types.UID // by volume: the claim that was seen Bound to it
	has    map[types.UID]types.UID // the other way round
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, writes: -1, had: map[types.UID]types.UID{}, has: map[types.UID]types.UID{}}
	w.live = fake.NewClientBuilder().WithStatusSubresource(&corev1.PersistentVolume{}, &corev1.PersistentVolumeClaim{}).WithInterceptorFuncs(interceptor.Funcs{
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			if w.writes == 0 {
				return errCrash
			}
			w.writes--
			return c.Update(ctx, obj, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
			if w.writes == 0 {
				return errCrash
			}
			w.writes--
			return c.SubResource(sub).Update(ctx, obj, opts...)
		},
	}).Build()
	w.cache = map[string]client.ObjectList{}
	w.deliver("volumes")
	w.deliver("claims")
	return w
}

// deliver lets the cache of a kind catch up.
func (w *world) deliver(kind string) {
	w.cache[kind] = map[string]client.ObjectList{"volumes": &corev1.PersistentVolumeList{}, "claims": &corev1.PersistentVolumeClaimList{}}[kind]
	w.old = nil
	if err := w.live.List(context.Background(), w.cache[kind]); err != nil {
		w.t.Fatal(err)
	}
}

// behind reads from the caches and writes to the API.
type behind struct {
	client.Client
	w *world
}

func (b behind) Get(ctx context.Context, key types.NamespacedName, into client.Object, _ ...client.GetOption) error {
	if b.w.old == nil {
		b.w.old = fake.NewClientBuilder().WithLists(b.w.cache["volumes"], b.w.cache["claims"]).Build()
	}
	return b.w.old.Get(ctx, key, into)
}

func (b behind) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	switch list := into.(type) {
	case *corev1.PersistentVolumeList:
		b.w.cache["volumes"].(*corev1.PersistentVolumeList).DeepCopyInto(list)
	case *corev1.PersistentVolumeClaimList:
		b.w.cache["claims"].(*corev1.PersistentVolumeClaimList).DeepCopyInto(list)
	}
	return nil
}

// reconcile lets the controllers look at one object.
func (w *world) reconcile(kind string, key types.NamespacedName) {
	shared := writer{client: behind{w.live, w}, live: w.live, recorder: record.NewFakeRecorder(1000)}
	var err error
	switch kind {
	case "volumes":
		_, err = (&volumes{shared}).Reconcile(context.Background(), ctrl.Request{NamespacedName: key})
	case "claims":
		_, err = (&claims{shared}).Reconcile(context.Background(), ctrl.Request{NamespacedName: key})
		if err == nil {
			_, err = (&protector{shared}).Reconcile(context.Background(), ctrl.Request{NamespacedName: key})
		}
	}
	if err != nil && !errors.Is(err, errCrash) {
		w.t.Fatal(err)
	}
}

// user does something that users do.
func (w *world) user() {
	ctx := context.Background()
	name := fmt.Sprint(rapid.IntRange(0, 3).Draw(w.t, "which"))
	size := fmt.Sprintf("%dGi", rapid.IntRange(1, 3).Draw(w.t, "size"))
	claim, v := makeClaim("c"+name, size), makeVolume("v"+name, size)
	w.made++
	claim.UID, v.UID = types.UID(fmt.Sprintf("c%s-%d", name, w.made)), types.UID(fmt.Sprintf("v%s-%d", name, w.made))
	v.Status = corev1.PersistentVolumeStatus{}
	var err error
	switch rapid.IntRange(0, 5).Draw(w.t, "does") {
	case 0, 1:
		if rapid.IntRange(0, 3).Draw(w.t, "names a volume") == 0 {
			claim.Spec.VolumeName = "v" + name
		}
		err = w.live.Create(ctx, claim)
	case 2, 3:
		if rapid.IntRange(0, 3).Draw(w.t, "is for a claim") == 0 {
			claimedBy("c"+name, "")(v)
		}
		err = w.live.Create(ctx, v)
	case 4:
		err = w.live.Delete(ctx, claim)
	case 5:
		err = w.live.Delete(ctx, v)
	}
	if err != nil && client.IgnoreNotFound(client.IgnoreAlreadyExists(err)) != nil {
		w.t.Fatal(err)
	}
}

func (w *world) state() ([]corev1.PersistentVolume, []corev1.PersistentVolumeClaim) {
	var volumes corev1.PersistentVolumeList
	var claims corev1.PersistentVolumeClaimList
	if err := errors.Join(w.live.List(context.Background(), &volumes), w.live.List(context.Background(), &claims)); err != nil {
		w.t.Fatal(err)
	}
	return volumes.Items, claims.Items
}

// check holds what must be true at every moment.
func (w *world) check() {
	volumes, claims := w.state()
	for _, v := range volumes {
		if v.Status.Phase == corev1.VolumeReleased && v.Spec.ClaimRef != nil && slices.ContainsFunc(claims, func(c corev1.PersistentVolumeClaim) bool { return c.UID == v.Spec.ClaimRef.UID }) {
			w.t.Fatalf("volume %s is Released while claim %s exists", v.UID, v.Spec.ClaimRef.UID)
		}
	}
	for _, c := range claims {
		if c.Status.Phase != corev1.ClaimBound {
			continue
		}
		i := slices.IndexFunc(volumes, func(v corev1.PersistentVolume) bool { return v.Name == c.Spec.VolumeName })
		if i < 0 {
			continue // deleted by force; it will be Lost
		}
		v := volumes[i]
		if v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != c.UID {
			if w.has[c.UID] == v.UID {
				w.t.Fatalf("volume %s was taken from claim %s", v.UID, c.UID)
			}
			continue // another volume of the name; it will be Lost
		}
		if other, ok := w.had[v.UID]; ok && other != c.UID {
			w.t.Fatalf("volume %s served claims %s and %s", v.UID, other, c.UID)
		}
		if other, ok := w.has[c.UID]; ok && other != v.UID {
			w.t.Fatalf("claim %s had volumes %s and %s", c.UID, other, v.UID)
		}
		w.had[v.UID], w.has[c.UID] = c.UID, v.UID
	}
}

// settle lets everything be seen and looked at until nothing changes any more.
func (w *world) settle() {
	w.writes = -1
	before := ""
	for range 50 {
		w.deliver("volumes")
		w.deliver("claims")
		volumes, claims := w.state()
		now := ""
		for _, v := range volumes {
			now += v.ResourceVersion + v.Name + " "
			w.reconcile("volumes", types.NamespacedName{Name: v.Name})
			w.check()
		}
		for _, c := range claims {
			now += c.ResourceVersion + c.Name + " "
			w.reconcile("claims", client.ObjectKeyFromObject(&c))
			w.check()
		}
		if now == before {
			return
		}
		before = now
	}
	w.t.Fatal("it does not come to rest")
}

// TestOneClaimOneVolume: whatever caches show, in whatever order, and wherever the
// process ends, a volume never serves two claims and a claim never has two
// volumes; and at rest no claim waits beside a volume that fits it, and no volume
// is kept for a claim that has another.
func TestOneClaimOneVolume(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				w.user()
			case 2:
				w.deliver(rapid.SampledFrom([]string{"volumes", "claims"}).Draw(t, "kind"))
			case 3, 4:
				name := fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "object"))
				if rapid.Bool().Draw(t, "a volume") {
					w.reconcile("volumes", types.NamespacedName{Name: "v" + name})
				} else {
					w.reconcile("claims", types.NamespacedName{Namespace: "default", Name: "c" + name})
				}
			case 5:
				w.writes = rapid.IntRange(-1, 2).Draw(t, "writes until the end")
			}
			w.check()
		}
		w.settle()
		volumes, claims := w.state()
		atRest(t, volumes, claims)
	})
}

func atRest(t *rapid.T, volumes []corev1.PersistentVolume, claims []corev1.PersistentVolumeClaim) {
	var all []*corev1.PersistentVolume
	for i := range volumes {
		all = append(all, &volumes[i])
	}
	for i := range claims {
		c := &claims[i]
		if c.DeletionTimestamp != nil || c.Spec.VolumeName != "" {
			continue
		}
		if found, err := match(c, all, false, nil); err != nil || found != nil {
			t.Fatalf("claim %s waits though %v fits (%v)", c.Name, found, err)
		}
	}
	for _, v := range volumes {
		ref := v.Spec.ClaimRef
		if ref == nil || ref.UID == "" {
			continue
		}
		if i := slices.IndexFunc(claims, func(c corev1.PersistentVolumeClaim) bool { return c.UID == ref.UID }); i >= 0 && claims[i].Spec.VolumeName != v.Name {
			t.Fatalf("volume %s is kept for claim %s, which has %q", v.Name, claims[i].Name, claims[i].Spec.VolumeName)
		}
	}
}
