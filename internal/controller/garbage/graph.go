package garbage

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"
)

// absentKept is how many UIDs of objects that are gone are remembered.
const absentKept = 4096

// object is what the graph keeps of an API object.
type object struct {
	kind       schema.GroupVersionKind
	namespace  string
	name       string
	uid        types.UID
	version    string // resourceVersion
	owners     []metav1.OwnerReference
	finalizers []string
	deleting   bool
}

// newObject takes from an API object what the graph keeps. The lists stay shared with it.
func newObject(kind schema.GroupVersionKind, o metav1.Object) *object {
	return &object{
		kind: kind, namespace: o.GetNamespace(), name: o.GetName(), uid: o.GetUID(), version: o.GetResourceVersion(),
		owners: o.GetOwnerReferences(), finalizers: o.GetFinalizers(), deleting: o.GetDeletionTimestamp() != nil,
	}
}

func (o *object) has(finalizer string) bool { return slices.Contains(o.finalizers, finalizer) }

// foreground says whether an object waits for its dependents to go first.
func (o *object) foreground() bool {
	return o.deleting && o.has(metav1.FinalizerDeleteDependents)
}

// orphaning says whether an object waits for its dependents to be let go.
func (o *object) orphaning() bool { return o.deleting && o.has(metav1.FinalizerOrphanDependents) }

// owner returns an object's reference to an owner, nil when it has none.
func (o *object) owner(uid types.UID) *metav1.OwnerReference {
	i := slices.IndexFunc(o.owners, func(r metav1.OwnerReference) bool { return r.UID == uid })
	if i < 0 {
		return nil
	}
	return &o.owners[i]
}

// graph is all objects with who owns whom. It is not safe for concurrent use.
type graph struct {
	objects    map[types.UID]*object
	dependents map[types.UID]map[types.UID]*object // by owner, which need not be known
	absent     *lru.Cache                          // UIDs of objects that are certainly gone
}

func newGraph() *graph {
	return &graph{
		objects:    map[types.UID]*object{},
		dependents: map[types.UID]map[types.UID]*object{},
		absent:     lru.New(absentKept),
	}
}

// set takes in an object as it is now and returns whom to look at because of it.
func (g *graph) set(o *object) []types.UID {
	before := g.objects[o.uid]
	if before != nil {
		g.unlink(before)
	}
	g.objects[o.uid] = o
	for _, r := range o.owners {
		if g.dependents[r.UID] == nil {
			g.dependents[r.UID] = map[types.UID]*object{}
		}
		g.dependents[r.UID][o.uid] = o
	}
	if before == nil {
		before = &object{}
	}
	var look []types.UID
	ownersChanged := !equality.Semantic.DeepEqual(before.owners, o.owners)
	if ownersChanged || before.deleting != o.deleting || !slices.Equal(before.finalizers, o.finalizers) {
		look = append(look, o.uid)
	}
	if o.foreground() && !before.foreground() {
		look = append(look, g.dependentsOf(o.uid)...)
	}
	if ownersChanged {
		look = append(look, waiting(g, before)...) // it may block them no more
	}
	return look
}

// remove takes out an object that is gone and returns whom to look at because of it.
func (g *graph) remove(uid types.UID) []types.UID {
	g.absent.Add(uid, nil)
	o := g.objects[uid]
	if o == nil {
		return nil
	}
	delete(g.objects, uid)
	g.unlink(o)
	return append(g.dependentsOf(uid), waiting(g, o)...)
}

// gone remembers that the API has no object of a UID.
func (g *graph) gone(uid types.UID) { g.absent.Add(uid, nil) }

// isGone says whether an object is certainly gone. UIDs are never used twice.
func (g *graph) isGone(uid types.UID) bool {
	_, ok := g.absent.Get(uid)
	return ok
}

// dependentsOf returns the dependents of an owner, in the order of their UIDs.
func (g *graph) dependentsOf(owner types.UID) []types.UID {
	return slices.Sorted(maps.Keys(g.dependents[owner]))
}

// waiting returns the owners of an object that wait for it to go.
func waiting(g *graph, o *object) []types.UID {
	var uids []types.UID
	for _, r := range o.owners {
		if owner := g.objects[r.UID]; owner != nil && owner.deleting {
			uids = append(uids, r.UID)
		}
	}
	return uids
}

func (g *graph) unlink(o *object) {
	for _, r := range o.owners {
		delete(g.dependents[r.UID], o.uid)
		if len(g.dependents[r.UID]) == 0 {
			delete(g.dependents, r.UID)
		}
	}
}
