package garbage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// world is an API of objects and the collector's graph of them. What the graph
// is shown, and when, is up to the script: after every command, or never.
type world struct {
	objects map[types.UID]*object
	hidden  map[types.UID]bool // not shown to the graph
	graph   *graph
	look    []types.UID
	out     strings.Builder
}

func newWorld() *world {
	return &world{objects: map[types.UID]*object{}, hidden: map[types.UID]bool{}, graph: newGraph()}
}

func (w *world) put(o *object) {
	w.objects[o.uid] = o
	if !w.hidden[o.uid] {
		w.look = append(w.look, w.graph.set(o)...)
	}
}

func (w *world) drop(uid types.UID) {
	delete(w.objects, uid)
	if !w.hidden[uid] {
		w.look = append(w.look, w.graph.remove(uid)...)
	}
}

// del deletes as the API does: finalizers hold an object.
func (w *world) del(o *object, policy metav1.DeletionPropagation) {
	c := *o
	c.deleting = true
	c.finalizers = slices.DeleteFunc(slices.Clone(c.finalizers), func(f string) bool {
		return f == metav1.FinalizerDeleteDependents || f == metav1.FinalizerOrphanDependents
	})
	switch policy {
	case metav1.DeletePropagationForeground:
		c.finalizers = append(c.finalizers, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationOrphan:
		c.finalizers = append(c.finalizers, metav1.FinalizerOrphanDependents)
	}
	if len(c.finalizers) == 0 {
		w.drop(c.uid)
		return
	}
	w.put(&c)
}

func (w *world) do(a act) {
	what := ""
	switch a.Verb {
	case remove:
		what = " " + strings.ToLower(string(a.Policy))
	case dropFinalizer:
		what = " " + a.What
	}
	fmt.Fprintf(&w.out, "%s %s%s: %s\n", a.Verb, a.Object, what, a.Why)
	o := w.objects[a.Object.uid]
	if o == nil || a.Verb == warn {
		return
	}
	c := *o
	switch a.Verb {
	case remove:
		w.del(o, a.Policy)
		return
	case dropOwners:
		c.owners = remaining(o, a.Owners)
	case unblock:
		c.owners = remaining(o, nil)
		for i := range c.owners {
			c.owners[i].BlockOwnerDeletion = ptr.To(false)
		}
	case dropFinalizer:
		c.finalizers = slices.DeleteFunc(slices.Clone(o.finalizers), func(f string) bool { return f == a.What })
		if c.deleting && len(c.finalizers) == 0 {
			w.drop(c.uid)
			return
		}
	}
	w.put(&c)
}

// ask is the API's answer about owners.
func (w *world) ask(refs []metav1.OwnerReference) owners {
	asked := owners{}
	for _, r := range refs {
		switch o := w.objects[r.UID]; {
		case r.Kind == "Unknown":
			asked[r.UID] = unresolved
		case o == nil:
			asked[r.UID] = gone
			w.graph.gone(r.UID)
		case o.foreground():
			asked[r.UID] = leaving
		default:
			asked[r.UID] = solid
		}
		fmt.Fprintf(&w.out, "ask for %s %s\n", r.Kind, r.Name)
	}
	return asked
}

func (w *world) run(limit int) {
	for ; len(w.look) > 0 && limit > 0; limit-- {
		uid := w.look[0]
		w.look = w.look[1:]
		s := plan(w.graph, uid, nil)
		if len(s.Ask) > 0 {
			s = plan(w.graph, uid, w.ask(s.Ask))
		}
		for _, a := range s.Acts {
			w.do(a)
		}
	}
	if limit == 0 {
		w.out.WriteString("and so on without end\n")
	}
}

func (w *world) show() {
	for _, uid := range slices.Sorted(maps.Keys(w.objects)) {
		o := w.objects[uid]
		fmt.Fprintf(&w.out, "%s", o)
		for _, r := range o.owners {
			fmt.Fprintf(&w.out, " <%s", r.UID)
		}
		if o.deleting {
			fmt.Fprintf(&w.out, " deleting %v", o.finalizers)
		}
		w.out.WriteString("\n")
	}
}

// TestPlan runs the scripts. The UID of an object is its name.
//
//	set Kind namespace/name [owner=UID]… [block=UID]… [finalizer=F]… [hidden]
//	delete UID [foreground|orphan]   what a user does
//	gone UID                         the API loses an object, and the graph is told
//	run                              plan and act until there is nothing to do
func TestPlan(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newWorld()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.out.Reset()
			switch d.Cmd {
			case "set":
				for line := range strings.Lines(d.Input) {
					w.put(w.parse(t, strings.Fields(line)))
				}
			case "delete":
				policy := metav1.DeletePropagationBackground
				if len(d.CmdArgs) > 1 {
					policy = map[string]metav1.DeletionPropagation{
						"foreground": metav1.DeletePropagationForeground, "orphan": metav1.DeletePropagationOrphan}[d.CmdArgs[1].Key]
				}
				w.del(w.objects[types.UID(d.CmdArgs[0].Key)], policy)
				w.run(100)
				w.out.WriteString("--\n")
				w.show()
			case "gone":
				w.drop(types.UID(d.CmdArgs[0].Key))
				w.run(100)
				w.out.WriteString("--\n")
				w.show()
			case "run":
				w.run(100)
				w.out.WriteString("--\n")
				w.show()
			}
			return w.out.String()
		})
	})
}

func (w *world) parse(t *testing.T, words []string) *object {
	namespace, name, found := strings.Cut(words[1], "/")
	if !found {
		namespace, name = "", words[1]
	}
	o := &object{kind: schema.GroupVersionKind{Version: "v1", Kind: words[0]}, namespace: namespace, name: name, uid: types.UID(name)}
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "owner", "block":
			r := metav1.OwnerReference{APIVersion: "v1", Kind: "Owner", Name: value, UID: types.UID(value)}
			if strings.HasPrefix(value, "unknown") {
				r.Kind = "Unknown"
			}
			if key == "block" {
				r.BlockOwnerDeletion = ptr.To(true)
			}
			o.owners = append(o.owners, r)
		case "finalizer":
			o.finalizers = append(o.finalizers, value)
		case "hidden":
			w.hidden[o.uid] = true
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	return o
}
