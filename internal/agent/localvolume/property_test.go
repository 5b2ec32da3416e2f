package localvolume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"windlass.dev/windlass/api/v1alpha1"
)

var errCrash = errors.New("the process ends here")

// fuse lets so many deeds through, then none.
type fuse struct{ left int }

func (f *fuse) burn() error {
	if f.left == 0 {
		return errCrash
	}
	f.left--
	return nil
}

// fused is directories that stop working when the process ends.
type fused struct {
	Directories
	fuse *fuse
}

func (d fused) Make(v string, size int64) (string, error) {
	if err := d.fuse.burn(); err != nil {
		return "", err
	}
	return d.Directories.Make(v, size)
}

// Remove ends, half of the time, between the renaming and the deletion.
func (d fused) Remove(v string) error {
	if err := d.fuse.burn(); err != nil {
		return err
	}
	if d.fuse.left == 0 {
		_ = os.Rename(d.Path(v), d.Path(v)+deleting)
		return errCrash
	}
	return d.Directories.Remove(v)
}

func (d fused) Abandon(v string) error {
	if err := d.fuse.burn(); err != nil {
		return err
	}
	return d.Directories.Abandon(v)
}

// reading is a cache that is never behind.
type reading struct {
	cache.Cache
	client.Reader
}

func (r reading) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return r.Reader.Get(ctx, key, o, opts...)
}

func (r reading) List(ctx context.Context, o client.ObjectList, opts ...client.ListOption) error {
	return r.Reader.List(ctx, o, opts...)
}

// world is two nodes on one disk each, with claims that come, change their node and go.
type world struct {
	t     *rapid.T
	api   client.Client
	fuse  fuse
	disks map[string]Directories
	kept  []string // data of claims that went, whose volumes' policy is Retain
}

func newWorld(t *rapid.T, dir string) *world {
	w := &world{t: t, disks: map[string]Directories{"a": Below(filepath.Join(dir, "a")), "b": Below(filepath.Join(dir, "b"))}}
	w.fuse.left = -1
	w.api = fake.NewClientBuilder().WithObjects(localClass.DeepCopy()).WithStatusSubresource(&corev1.PersistentVolume{}).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if v, ok := o.(*corev1.PersistentVolume); ok {
				if err := w.fuse.burn(); err != nil {
					return err
				}
				if !exists(v.Spec.Local.Path) {
					w.t.Fatalf("volume %s was told without its directory", v.Name)
				}
			}
			return c.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := w.fuse.burn(); err != nil {
				return err
			}
			return c.Update(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := w.fuse.burn(); err != nil {
				return err
			}
			return c.Delete(ctx, o, opts...)
		},
	}).Build()
	return w
}

func (w *world) node(name string) *Provisioner {
	return New(Config{NodeName: name, Client: w.api, Cache: reading{Reader: w.api}, Recorder: record.NewFakeRecorder(1000), Log: slog.New(slog.DiscardHandler),
		Directories: fused{w.disks[name], &w.fuse}})
}

// look lets a node look at everything, as it does after a start; then the process
// that ended is there again.
func (w *world) look(node string) {
	p := w.node(node)
	_ = p.sweep(w.t.Context())
	for i := range 3 {
		_ = p.lookAtClaim(w.t.Context(), item{Namespace: "default", Name: fmt.Sprint("c", i)})
		var list corev1.PersistentVolumeList
		if err := w.api.List(w.t.Context(), &list); err != nil {
			w.t.Fatal(err)
		}
		for _, v := range list.Items {
			_ = p.lookAtVolume(w.t.Context(), v.Name)
		}
	}
	w.fuse.left = -1
}

// user is the people, the scheduler and the controller of volumes.
func (w *world) user(made int) {
	w.fuse.left = -1
	name := fmt.Sprint("c", rapid.IntRange(0, 2).Draw(w.t, "claim"))
	claim := makeClaim(name)
	claim.UID += types.UID(fmt.Sprint("-", made))
	ctx := w.t.Context()
	var there corev1.PersistentVolumeClaim
	found := w.api.Get(ctx, item{Namespace: "default", Name: name}, &there) == nil
	v := &corev1.PersistentVolume{}
	has := found && w.api.Get(ctx, item{Name: nameOf(&there)}, v) == nil
	var err error
	switch what := rapid.IntRange(0, 4).Draw(w.t, "does"); {
	case !found:
		err = w.api.Create(ctx, claim)
	case what == 0 && there.Spec.VolumeName == "":
		there.Annotations["volume.kubernetes.io/selected-node"] = rapid.SampledFrom([]string{"a", "b"}).Draw(w.t, "node")
		err = w.api.Update(ctx, &there)
	case what <= 2 && has && v.DeletionTimestamp == nil:
		there.Spec.VolumeName = v.Name
		v.Status.Phase = corev1.VolumeBound
		if err = errors.Join(w.api.Update(ctx, &there), w.api.Status().Update(ctx, v)); err == nil {
			err = os.WriteFile(filepath.Join(v.Spec.Local.Path, "data"), []byte(there.UID), 0o600)
		}
	case what == 3:
		if err = w.api.Delete(ctx, &there); err == nil && has {
			if file := filepath.Join(v.Spec.Local.Path, "data"); v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRetain && exists(file) {
				w.kept = append(w.kept, file)
			}
			v.Status.Phase = corev1.VolumeReleased
			err = w.api.Status().Update(ctx, v)
		}
	case what == 4 && has && v.DeletionTimestamp == nil && rapid.Bool().Draw(w.t, "retain"):
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		err = w.api.Update(ctx, v)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestCrashes: wherever a node's process ends, a volume in the API has its
// directory with all its data, unless its claim is gone and its policy is Delete;
// there is one volume for a claim at most; and once all nodes have looked again no
// directory is left that no volume names, but those with data of others.
func TestCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "localvolume")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		w := newWorld(t, dir)
		for i := range rapid.IntRange(5, 25).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "a user") {
				w.user(i)
			} else {
				w.fuse.left = rapid.IntRange(-1, 4).Draw(t, "deeds until the end")
				w.look(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node"))
			}
			w.check()
		}
		for range 3 {
			w.look("a")
			w.look("b")
		}
		w.check()
		w.clean(dir)
	})
}

func (w *world) volumes() map[string]*corev1.PersistentVolume {
	var list corev1.PersistentVolumeList
	if err := w.api.List(w.t.Context(), &list); err != nil {
		w.t.Fatal(err)
	}
	byName := map[string]*corev1.PersistentVolume{}
	for i := range list.Items {
		byName[list.Items[i].Name] = &list.Items[i]
	}
	return byName
}

func (w *world) check() {
	for _, file := range w.kept {
		if !exists(file) {
			w.t.Fatalf("%s was to be retained", file)
		}
	}
	for _, v := range w.volumes() {
		_, err := os.Stat(filepath.Join(v.Spec.Local.Path, "data"))
		switch {
		case v.DeletionTimestamp != nil && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && v.Status.Phase != corev1.VolumeBound:
		case !exists(v.Spec.Local.Path):
			w.t.Fatalf("volume %s, %s, has lost its directory", v.Name, v.Status.Phase)
		case v.Status.Phase == corev1.VolumeBound && err != nil:
			w.t.Fatalf("volume %s has lost its data: %v", v.Name, err)
		}
	}
}

func (w *world) clean(dir string) {
	var claims corev1.PersistentVolumeClaimList
	if err := w.api.List(w.t.Context(), &claims); err != nil {
		w.t.Fatal(err)
	}
	wanted := map[string]bool{}
	for i := range claims.Items {
		wanted[nameOf(&claims.Items[i])] = true
	}
	volumes := w.volumes()
	for _, node := range []string{"a", "b"} {
		entries, _ := os.ReadDir(filepath.Join(dir, node))
		for _, entry := range entries {
			v := volumes[entry.Name()]
			if strings.HasSuffix(entry.Name(), deleting) || v == nil && !wanted[entry.Name()] {
				w.t.Fatalf("node %s has %s, which no volume names", node, entry.Name())
			}
		}
	}
	for _, v := range volumes {
		if v.Status.Phase == corev1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			w.t.Fatalf("volume %s is still there (%v, finalizer %s)", v.Name, v.DeletionTimestamp, v1alpha1.FinalizerLocalVolume)
		}
	}
}

// TestLateClaims: a volume that is seen Released before its claim is seen to go is left
// alone, for its claim is there. The end of the claim brings it up again, also of one
// that was never bound to it, and where all that is seen is another of its name.
func TestLateClaims(t *testing.T) {
	bound := makeClaim("c", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = nameOf(c) })
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		seen  func(*Provisioner, *corev1.PersistentVolumeClaim)
	}{
		"unbound": {makeClaim("c"), func(p *Provisioner, c *corev1.PersistentVolumeClaim) {
			going := c.DeepCopy()
			going.DeletionTimestamp = ptr.To(metav1.Now())
			p.updated(c, going)
		}},
		"bound": {bound, func(p *Provisioner, c *corev1.PersistentVolumeClaim) { p.changed(c) }},
		"made once more": {bound, func(p *Provisioner, c *corev1.PersistentVolumeClaim) {
			p.updated(c, makeClaim("c", func(c *corev1.PersistentVolumeClaim) { c.UID = "another" }))
		}},
	} {
		t.Run(name, func(t *testing.T) { lateClaim(t, test.claim, test.seen) })
	}
}

func lateClaim(t *testing.T, claim *corev1.PersistentVolumeClaim, seen func(*Provisioner, *corev1.PersistentVolumeClaim)) {
	v := volumeFor(claim, localClass, "a", "/volumes/pvc-uid-c", "enforced")
	v.Status.Phase = corev1.VolumeReleased
	api := fake.NewClientBuilder().WithObjects(claim.DeepCopy(), v).Build()
	p := New(Config{NodeName: "a", Client: api, Recorder: record.NewFakeRecorder(99), Log: slog.New(slog.DiscardHandler), Directories: Below("/volumes")})
	defer p.queue.ShutDown()
	look := func() (found corev1.PersistentVolume) {
		for p.queue.Len() > 0 {
			it, _ := p.queue.Get()
			if err := p.look(t.Context(), it); err != nil {
				t.Fatal(err)
			}
			p.queue.Done(it)
		}
		if err := api.Get(t.Context(), item{Name: v.Name}, &found); err != nil {
			t.Fatal(err)
		}
		return found
	}
	p.queue.Add(item{Name: v.Name})
	if found := look(); found.DeletionTimestamp != nil {
		t.Fatal("the volume is deleted while its claim is known")
	}
	if err := api.Delete(t.Context(), claim.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	seen(p, claim)
	if found := look(); found.DeletionTimestamp == nil {
		t.Fatal("the volume is left over")
	}
}
