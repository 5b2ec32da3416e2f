package garbage

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// workers is how many objects are dealt with at a time.
const workers = 8

// unresolvedRetry is when an owner of an unknown kind is looked for again.
const unresolvedRetry = time.Minute

// collector holds the graph and carries out what is planned over it.
type collector struct {
	client   client.Client // writes
	live     client.Reader // reads past the cache
	mapper   meta.RESTMapper
	recorder record.EventRecorder
	queue    workqueue.TypedRateLimitingInterface[types.UID]

	mu    sync.Mutex
	graph *graph
}

func newCollector(c client.Client, live client.Reader, mapper meta.RESTMapper, recorder record.EventRecorder) *collector {
	return &collector{
		client: c, live: live, mapper: mapper, recorder: recorder, graph: newGraph(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](5*time.Millisecond, 30*time.Second)),
	}
}

// set takes in an object as a watch shows it.
func (c *collector) set(kind schema.GroupVersionKind, o metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look(c.graph.set(newObject(kind, o)))
}

// remove takes out an object that a watch shows to be gone.
func (c *collector) remove(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look(c.graph.remove(uid))
}

func (c *collector) look(uids []types.UID) {
	for _, uid := range uids {
		c.queue.Add(uid)
	}
}

// work deals with objects until ctx ends.
func (c *collector) work(ctx context.Context) {
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for c.one(ctx) {
			}
		})
	}
	<-ctx.Done()
	c.queue.ShutDown()
	running.Wait()
}

// one deals with the next object of the queue and says whether to go on.
func (c *collector) one(ctx context.Context) bool {
	uid, stop := c.queue.Get()
	if stop {
		return false
	}
	defer c.queue.Done(uid)
	switch err := c.collect(ctx, uid); {
	case err == nil:
		c.queue.Forget(uid)
	case ctx.Err() != nil:
	default:
		if !apierrors.IsConflict(err) { // a conflict says that the graph was behind
			log.FromContext(ctx).Error(err, "Collect garbage")
		}
		c.queue.AddRateLimited(uid)
	}
	return true
}

// collect plans for one object and does it, asking the API about owners first
// where that is needed.
func (c *collector) collect(ctx context.Context, uid types.UID) error {
	s := c.plan(uid, nil)
	if len(s.Ask) > 0 {
		asked, err := c.ask(ctx, uid, s.Ask)
		if err != nil {
			return err
		}
		s = c.plan(uid, asked)
		if len(s.Ask) > 0 { // its owners changed meanwhile
			c.queue.Add(uid)
			return nil
		}
	}
	for _, a := range s.Acts {
		log.FromContext(ctx).V(1).Info("Collecting garbage", "verb", a.Verb, "object", a.Object.String(), "why", a.Why)
		if err := client.IgnoreNotFound(c.do(ctx, a)); err != nil {
			return fmt.Errorf("%s %s: %w", a.Verb, a.Object, err)
		}
	}
	return nil
}

func (c *collector) plan(uid types.UID, asked owners) step {
	c.mu.Lock()
	defer c.mu.Unlock()
	return plan(c.graph, uid, asked)
}

// ask asks the API how owners of an object stand.
func (c *collector) ask(ctx context.Context, uid types.UID, refs []metav1.OwnerReference) (owners, error) {
	c.mu.Lock()
	o := c.graph.objects[uid]
	c.mu.Unlock()
	if o == nil {
		return nil, nil
	}
	asked := owners{}
	for _, r := range refs {
		st, err := c.askOne(ctx, o, r)
		if err != nil {
			return nil, fmt.Errorf("look for %s %s, owner of %s: %w", r.Kind, r.Name, o, err)
		}
		asked[r.UID] = st
		switch st {
		case gone:
			c.mu.Lock()
			c.graph.gone(r.UID)
			c.mu.Unlock()
		case unresolved:
			c.queue.AddAfter(uid, unresolvedRetry)
		}
	}
	return asked, nil
}

func (c *collector) askOne(ctx context.Context, o *object, r metav1.OwnerReference) (standing, error) {
	gv, err := schema.ParseGroupVersion(r.APIVersion)
	if err != nil {
		return unresolved, nil
	}
	mapping, err := c.mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: r.Kind}, gv.Version)
	if meta.IsNoMatchError(err) {
		return unresolved, nil
	}
	if err != nil {
		return unresolved, err
	}
	key := client.ObjectKey{Name: r.Name}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if o.namespace == "" {
			c.recorder.Eventf(o.reference(), corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
				"cluster-scoped %s has a namespaced owner %s %s: it is not collected", o, r.Kind, r.Name)
			return unresolved, nil
		}
		key.Namespace = o.namespace
	}
	owner := &metav1.PartialObjectMetadata{}
	owner.SetGroupVersionKind(mapping.GroupVersionKind)
	switch err := c.live.Get(ctx, key, owner); {
	case apierrors.IsNotFound(err):
		return gone, nil
	case err != nil:
		return unresolved, err
	case owner.UID != r.UID:
		return gone, nil
	}
	if newObject(mapping.GroupVersionKind, owner).foreground() {
		return leaving, nil
	}
	return solid, nil
}

// do makes one write. The object must still be as it was when it was decided on.
func (c *collector) do(ctx context.Context, a act) error {
	target := &metav1.PartialObjectMetadata{}
	target.SetGroupVersionKind(a.Object.kind)
	target.Namespace, target.Name = a.Object.namespace, a.Object.name
	switch a.Verb {
	case warn:
		c.recorder.Event(a.Object.reference(), corev1.EventTypeWarning, "OwnerRefInvalidNamespace", a.Why)
		return nil
	case remove:
		return c.client.Delete(ctx, target, client.PropagationPolicy(a.Policy), client.Preconditions{UID: &a.Object.uid, ResourceVersion: &a.Object.version})
	}
	patch, err := a.patch()
	if err != nil {
		return err
	}
	return c.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch))
}

// patch is a JSON merge patch that applies only to the object as it was seen.
func (a act) patch() ([]byte, error) {
	change := map[string]any{"uid": a.Object.uid, "resourceVersion": a.Object.version}
	switch a.Verb {
	case dropOwners:
		change["ownerReferences"] = remaining(a.Object, a.Owners)
	case unblock:
		refs := remaining(a.Object, nil)
		for i := range refs {
			refs[i].BlockOwnerDeletion = ptr.To(false)
		}
		change["ownerReferences"] = refs
	case dropFinalizer:
		kept := []string{}
		for _, f := range a.Object.finalizers {
			if f != a.What {
				kept = append(kept, f)
			}
		}
		change["finalizers"] = kept
	}
	return json.Marshal(map[string]any{"metadata": change})
}

// reference is an object as an event refers to it.
func (o *object) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: o.kind.GroupVersion().String(), Kind: o.kind.Kind,
		Namespace: o.namespace, Name: o.name, UID: o.uid}
}
