package localvolume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/component-helpers/storage/volume"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
)

// What failed is tried again after firstRetry, then twice that, up to lastRetry.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = time.Minute
)

// Config is what a Provisioner needs; all of it is required.
type Config struct {
	NodeName    string
	Client      client.Client // its reads may come from Cache
	Cache       cache.Cache   // somebody else starts it
	Recorder    record.EventRecorder
	Directories Directories
	Log         *slog.Logger
}

// Provisioner makes, grows and deletes the volumes of one node.
type Provisioner struct {
	cfg   Config
	queue workqueue.TypedRateLimitingInterface[item]
	told  sync.Once // that capacity is not enforced
}

// item is an object to look at: a claim, or, without a namespace, a volume.
type item = types.NamespacedName

// New returns a provisioner. It starts nothing.
func New(cfg Config) *Provisioner {
	return &Provisioner{cfg: cfg, queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[item](firstRetry, lastRetry))}
}

// Run looks after the node's volumes until ctx ends. It returns an error only if it
// could not begin.
func (p *Provisioner) Run(ctx context.Context) error {
	if err := p.follow(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("follow claims and volumes: %w", err)
	}
	if err := p.sweep(ctx); err != nil && ctx.Err() == nil {
		p.cfg.Log.Warn("Looking for directories without a volume", "err", err)
	}
	stop := context.AfterFunc(ctx, p.queue.ShutDown)
	defer stop()
	for {
		it, over := p.queue.Get()
		if over {
			return nil
		}
		switch err := p.look(ctx, it); {
		case err == nil || ctx.Err() != nil:
			p.queue.Forget(it)
		default:
			if !apierrors.IsConflict(err) { // the cache is about to show it
				p.cfg.Log.Warn("Looking after a volume", "object", it.String(), "err", err)
			}
			p.queue.AddRateLimited(it)
		}
		p.queue.Done(it)
	}
}

// follow queues what changes. It returns once all that exists is known.
func (p *Provisioner) follow(ctx context.Context) error {
	var synced []toolscache.InformerSynced
	for _, object := range []client.Object{&corev1.PersistentVolumeClaim{}, &corev1.PersistentVolume{}} {
		informer, err := p.cfg.Cache.GetInformer(ctx, object)
		if err != nil {
			return err
		}
		seen, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    p.changed,
			UpdateFunc: p.updated,
			DeleteFunc: p.changed,
		})
		if err != nil {
			return err
		}
		synced = append(synced, seen.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return ctx.Err()
	}
	return nil
}

// updated queues what changed. After the watch was broken for long it may be another
// object of the name: then the one before is gone.
func (p *Provisioner) updated(before, after any) {
	if before.(client.Object).GetUID() != after.(client.Object).GetUID() {
		p.changed(before)
	}
	p.changed(after)
}

// changed queues what concerns this node.
func (p *Provisioner) changed(o any) {
	if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = unknown.Obj
	}
	switch object := o.(type) {
	case *corev1.PersistentVolumeClaim:
		if asked(object, p.cfg.NodeName) {
			p.queue.Add(client.ObjectKeyFromObject(object))
		}
		p.queue.Add(item{Name: cmp.Or(object.Spec.VolumeName, nameOf(object))}) // that it has, or that was made for it
	case *corev1.PersistentVolume:
		if !p.made(object) {
			return
		}
		p.queue.Add(item{Name: object.Name})
		if ref := object.Spec.ClaimRef; ref != nil { // which needs another, when this one is gone
			p.queue.Add(item{Namespace: ref.Namespace, Name: ref.Name})
		}
	}
}

func (p *Provisioner) made(v *corev1.PersistentVolume) bool {
	return made(v, p.cfg.NodeName, p.cfg.Directories.Path(v.Name))
}

func (p *Provisioner) look(ctx context.Context, it item) error {
	if it.Namespace == "" {
		return p.lookAtVolume(ctx, it.Name)
	}
	return p.lookAtClaim(ctx, it)
}

// sweep deletes what an earlier life left half done: directories whose deletion
// had begun, and those, still empty, whose volume did not get into the API.
func (p *Provisioner) sweep(ctx context.Context) error {
	names, err := p.cfg.Directories.Sweep()
	if err != nil {
		return err
	}
	var claims corev1.PersistentVolumeClaimList
	if err := p.cfg.Cache.List(ctx, &claims); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i := range claims.Items {
		wanted[nameOf(&claims.Items[i])] = true
	}
	for _, name := range names {
		err := p.cfg.Cache.Get(ctx, item{Name: name}, &corev1.PersistentVolume{})
		if wanted[name] || !strings.HasPrefix(name, "pvc-") || !apierrors.IsNotFound(err) {
			continue
		}
		if err := p.cfg.Directories.Abandon(name); err != nil {
			p.cfg.Log.Info("A directory that no PersistentVolume names is kept, for it has data", "path", p.cfg.Directories.Path(name))
		}
	}
	return nil
}

// lookAtClaim makes the volume of a claim that asks this node for one.
func (p *Provisioner) lookAtClaim(ctx context.Context, key item) error {
	var claim corev1.PersistentVolumeClaim
	if err := p.cfg.Client.Get(ctx, key, &claim); err != nil || !asked(&claim, p.cfg.NodeName) {
		return client.IgnoreNotFound(err)
	}
	name := volume.GetPersistentVolumeClaimClass(&claim)
	fail := func(err error) error {
		p.cfg.Recorder.Eventf(&claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", name, err)
		return fmt.Errorf("make the volume of claim %s: %w", key, err)
	}
	var class storagev1.StorageClass
	if err := p.cfg.Client.Get(ctx, item{Name: name}, &class); err != nil {
		return fail(err)
	}
	if why := refusal(&claim, &class); why != "" {
		return fail(errors.New(why))
	}
	if err := p.cfg.Cache.Get(ctx, item{Name: nameOf(&claim)}, &corev1.PersistentVolume{}); err == nil {
		return nil // it is about to be bound
	}
	p.cfg.Recorder.Eventf(&claim, corev1.EventTypeNormal, "Provisioning", "External provisioner is provisioning volume for claim %q", key.String())
	if err := p.provision(ctx, &claim, &class); err != nil {
		return fail(err)
	}
	p.cfg.Recorder.Eventf(&claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", nameOf(&claim))
	return nil
}

// provision makes the directory and then the volume. Another node may have been
// faster, where the scheduler changed its mind: the volume is then that node's.
func (p *Provisioner) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	name := nameOf(claim)
	capacity, err := p.cfg.Directories.Make(name, size.Value())
	if err != nil {
		return err
	}
	if capacity != "enforced" {
		p.told.Do(func() {
			p.cfg.Log.Warn("The capacity of volumes is not enforced on this node", "why", strings.TrimPrefix(capacity, "not enforced: "), "path", filepath.Dir(p.cfg.Directories.Path(name)))
		})
	}
	err = p.cfg.Client.Create(ctx, volumeFor(claim, class, p.cfg.NodeName, p.cfg.Directories.Path(name), capacity))
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	var there corev1.PersistentVolume
	if err := p.cfg.Client.Get(ctx, item{Name: name}, &there); err != nil {
		return fmt.Errorf("find out who made volume %s: %w", name, err)
	}
	if !p.made(&there) {
		return p.cfg.Directories.Abandon(name)
	}
	return nil
}

// lookAtVolume grows or deletes a volume, or lets go of it.
func (p *Provisioner) lookAtVolume(ctx context.Context, name string) error {
	var v corev1.PersistentVolume
	if err := p.cfg.Client.Get(ctx, item{Name: name}, &v); err != nil || !p.made(&v) {
		return client.IgnoreNotFound(err)
	}
	claim, err := p.claimOf(ctx, &v)
	if err != nil {
		return fmt.Errorf("find the claim of volume %s: %w", name, err)
	}
	switch d := planVolume(&v, claim); {
	case d.Grow != nil:
		return p.grow(ctx, &v, claim, *d.Grow)
	case d.Remove:
		return p.remove(ctx, &v)
	case d.LetGo:
		p.cfg.Log.Info("Keeping the data of a volume that was deleted", "volume", name, "path", v.Spec.Local.Path)
		return p.letGo(ctx, &v)
	}
	return nil
}

// claimOf returns the claim that a volume names, nil when there is none of its name
// and UID. The cache may not know it yet: a volume's phase and its protection are
// what says that a claim is gone.
func (p *Provisioner) claimOf(ctx context.Context, v *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	ref := v.Spec.ClaimRef
	if ref == nil {
		return nil, nil
	}
	var claim corev1.PersistentVolumeClaim
	err := p.cfg.Client.Get(ctx, item{Namespace: ref.Namespace, Name: ref.Name}, &claim)
	if err == nil && (ref.UID == "" || claim.UID == ref.UID) {
		return &claim, nil
	}
	return nil, client.IgnoreNotFound(err)
}

func (p *Provisioner) grow(ctx context.Context, v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim, size resource.Quantity) error {
	p.cfg.Recorder.Eventf(claim, corev1.EventTypeNormal, "Resizing", "External resizer is resizing volume %s", v.Name)
	err := p.cfg.Directories.Grow(v.Name, size.Value())
	if err == nil {
		v = v.DeepCopy()
		v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: size}
		err = p.cfg.Client.Update(ctx, v)
	}
	if err != nil {
		p.cfg.Recorder.Eventf(claim, corev1.EventTypeWarning, "VolumeResizeFailed", "resize volume %s failed: %v", v.Name, err)
		return fmt.Errorf("resize volume %s: %w", v.Name, err)
	}
	p.cfg.Recorder.Event(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	return nil
}

// remove deletes a volume's directory and then the volume. The object is deleted
// first, held by its finalizer: from then on nobody can bind it again.
func (p *Provisioner) remove(ctx context.Context, v *corev1.PersistentVolume) error {
	if v.DeletionTimestamp == nil {
		err := p.cfg.Client.Delete(ctx, v, client.Preconditions{UID: &v.UID, ResourceVersion: &v.ResourceVersion})
		if err != nil {
			return client.IgnoreNotFound(err)
		}
		return nil // its deletion comes back here
	}
	if err := p.cfg.Directories.Remove(v.Name); err != nil {
		p.cfg.Recorder.Eventf(v, corev1.EventTypeWarning, "VolumeFailedDelete", "delete %s: %v", v.Spec.Local.Path, err)
		return fmt.Errorf("delete the directory of volume %s: %w", v.Name, err)
	}
	p.cfg.Log.Info("Deleted the data of a volume whose claim is gone", "volume", v.Name, "path", v.Spec.Local.Path)
	return p.letGo(ctx, v)
}

func (p *Provisioner) letGo(ctx context.Context, v *corev1.PersistentVolume) error {
	v = v.DeepCopy()
	v.Finalizers = slices.DeleteFunc(v.Finalizers, func(f string) bool { return f == v1alpha1.FinalizerLocalVolume })
	return client.IgnoreNotFound(p.cfg.Client.Update(ctx, v))
}
