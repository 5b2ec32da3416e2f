package garbage

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// verb is what to do with an object.
type verb string

const (
	remove        verb = "delete"
	dropOwners    verb = "drop owners"
	unblock       verb = "unblock owners"
	dropFinalizer verb = "drop finalizer"
	warn          verb = "warn"
)

// act is one write, or the event of a refusal.
type act struct {
	Verb   verb
	Object *object
	Policy metav1.DeletionPropagation // of remove
	Owners []types.UID                // of dropOwners
	What   string                     // finalizer of dropFinalizer
	Why    string
}

// step is what to do about an object now. Ask comes first: these owners are
// known to nobody here, and nothing is done before the API has been asked.
type step struct {
	Acts []act
	Ask  []metav1.OwnerReference
}

// owners is what is known of owners that the graph does not show, by asking.
type owners map[types.UID]standing

// standing is how an owner stands.
type standing int

const (
	gone       standing = iota
	solid               // it exists, and keeps its dependents
	leaving             // it exists, and waits for its dependents to go first
	unresolved          // it cannot be found out; nothing is deleted on its account
)

// plan returns what to do about one object.
func plan(g *graph, uid types.UID, asked owners) step {
	o := g.objects[uid]
	switch {
	case o == nil:
		return step{}
	case o.orphaning():
		return planOrphans(g, o)
	case o.foreground():
		return planForeground(g, o)
	case o.deleting || len(o.owners) == 0:
		return step{}
	}
	return planDependent(g, o, asked)
}

// planOrphans lets the dependents of an owner go, then the owner.
func planOrphans(g *graph, o *object) step {
	var s step
	for _, uid := range g.dependentsOf(o.uid) {
		s.Acts = append(s.Acts, act{Verb: dropOwners, Object: g.objects[uid], Owners: []types.UID{o.uid},
			Why: fmt.Sprintf("%s is deleted and leaves its dependents", o)})
	}
	s.Acts = append(s.Acts, act{Verb: dropFinalizer, Object: o, What: metav1.FinalizerOrphanDependents,
		Why: fmt.Sprintf("its %d dependents are let go", len(s.Acts))})
	return s
}

// planForeground lets an owner go once no dependent blocks it.
func planForeground(g *graph, o *object) step {
	for _, dependent := range g.dependents[o.uid] {
		if blocking(*dependent.owner(o.uid)) {
			return step{}
		}
	}
	return step{Acts: []act{{Verb: dropFinalizer, Object: o, What: metav1.FinalizerDeleteDependents,
		Why: "no dependent blocks it"}}}
}

// blocking says whether an owner waits for the dependent that has this reference.
func blocking(r metav1.OwnerReference) bool {
	return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
}

// planDependent decides on an object by how its owners stand.
func planDependent(g *graph, o *object, asked owners) step {
	var s step
	var solids, lost, going []types.UID
	for _, r := range o.owners {
		st, known := stands(g, o, r, asked)
		switch {
		case !known:
			s.Ask = append(s.Ask, r)
		case st == gone:
			lost = append(lost, r.UID)
		case st == leaving:
			going = append(going, r.UID)
		default:
			solids = append(solids, r.UID)
		}
		if why := invalid(g, o, r); why != "" {
			s.Acts = append(s.Acts, act{Verb: warn, Object: o, Why: why})
		}
	}
	if len(s.Ask) > 0 {
		return step{Ask: s.Ask}
	}
	switch {
	case len(solids) > 0:
		if drop := append(lost, going...); len(drop) > 0 {
			s.Acts = append(s.Acts, act{Verb: dropOwners, Object: o, Owners: drop,
				Why: fmt.Sprintf("%d of its owners are gone, %d remain", len(drop), len(solids))})
		}
	case len(going) > 0 && circular(g, o):
		s.Acts = append(s.Acts, act{Verb: unblock, Object: o, Why: "its owner is among its dependents"})
	case len(going) > 0 && len(g.dependents[o.uid]) > 0:
		s.Acts = append(s.Acts, act{Verb: remove, Object: o, Policy: metav1.DeletePropagationForeground,
			Why: fmt.Sprintf("%s waits for it, and it has dependents", g.name(going[0]))})
	case len(going) > 0:
		s.Acts = append(s.Acts, act{Verb: remove, Object: o, Policy: policy(o), Why: fmt.Sprintf("%s waits for it", g.name(going[0]))})
	default:
		s.Acts = append(s.Acts, act{Verb: remove, Object: o, Policy: policy(o), Why: "its owner is gone: " + ownerNames(o)})
	}
	return s
}

// stands says how an owner stands, as far as is known.
func stands(g *graph, o *object, r metav1.OwnerReference, asked owners) (standing, bool) {
	if owner := g.objects[r.UID]; owner != nil {
		switch {
		case owner.namespace != "" && o.namespace == "":
			return unresolved, true
		case owner.namespace != "" && owner.namespace != o.namespace:
			return gone, true
		case owner.foreground():
			return leaving, true
		}
		return solid, true
	}
	if st, ok := asked[r.UID]; ok {
		return st, true
	}
	if g.isGone(r.UID) {
		return gone, true
	}
	return gone, false
}

// invalid says what is wrong with a reference to an owner; "" when nothing is.
func invalid(g *graph, o *object, r metav1.OwnerReference) string {
	owner := g.objects[r.UID]
	if owner == nil || owner.namespace == "" || owner.namespace == o.namespace {
		return ""
	}
	return fmt.Sprintf("ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q",
		r.APIVersion, r.Kind, o.namespace, r.Name, r.UID, o.namespace)
}

// circular says whether an object blocks its owners while one of its own
// dependents already waits for dependents: they could wait for each other.
func circular(g *graph, o *object) bool {
	if !slices.ContainsFunc(o.owners, blocking) {
		return false
	}
	for _, dependent := range g.dependents[o.uid] {
		if dependent.foreground() {
			return true
		}
	}
	return false
}

// policy is how to delete an object on its own account: as its finalizers ask.
func policy(o *object) metav1.DeletionPropagation {
	switch {
	case o.has(metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case o.has(metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// String names an object as kubectl does: Pod default/web.
func (o *object) String() string {
	if o.namespace == "" {
		return o.kind.Kind + " " + o.name
	}
	return o.kind.Kind + " " + o.namespace + "/" + o.name
}

// name names an object by its UID.
func (g *graph) name(uid types.UID) string {
	if o := g.objects[uid]; o != nil {
		return o.String()
	}
	return "its owner"
}

func ownerNames(o *object) string {
	var names []string
	for _, r := range o.owners {
		names = append(names, r.Kind+" "+r.Name)
	}
	return strings.Join(names, ", ")
}

// remaining returns an object's owner references without some owners.
func remaining(o *object, without []types.UID) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(o.owners), func(r metav1.OwnerReference) bool { return slices.Contains(without, r.UID) })
}
