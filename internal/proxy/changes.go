package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Transaction is a list of changes that the kernel makes all at once or not at
// all. It prints as a script that `nft -f` accepts.
type Transaction []Op

// Op is one change of a Transaction.
type Op struct {
	Kind     OpKind
	Set      Set       // AddSet, DeleteSet
	Chain    Chain     // AddChain, AddRules, FlushChain, DeleteChain
	Elements []Element // AddElements, DeleteElements: all of one set
}

// OpKind says what an Op does.
type OpKind int

// The kinds of Op.
const (
	ReplaceTable   OpKind = iota // begin with an empty table, whether there was one or not
	AddSet                       // a set that does not exist
	AddChain                     // a chain that does not exist, without rules
	AddRules                     // at the end of a chain
	FlushChain                   // remove all rules of a chain
	AddElements                  // that do not exist
	DeleteElements               // that exist
	DeleteChain                  // that nothing refers to
	DeleteSet                    // that no rule refers to
)

// String returns the transaction as a script for nft.
func (t Transaction) String() string {
	var b strings.Builder
	for _, op := range t {
		switch op.Kind {
		case ReplaceTable:
			fmt.Fprintf(&b, "add table ip %[1]s\ndelete table ip %[1]s\nadd table ip %[1]s\n", TableName)
		case AddSet:
			fmt.Fprintf(&b, "add %s { %s }\n", tableItem(op.Set.header()), op.Set.definition())
		case AddChain:
			hook := ""
			if op.Chain.Hook != nil {
				hook = fmt.Sprintf(" { %s }", op.Chain.Hook)
			}
			fmt.Fprintf(&b, "add %s%s\n", tableItem("chain "+op.Chain.Name), hook)
		case AddRules:
			for _, rule := range op.Chain.Rules {
				fmt.Fprintf(&b, "add %s %s\n", tableItem("rule "+op.Chain.Name), rule)
			}
		case FlushChain:
			fmt.Fprintf(&b, "flush %s\n", tableItem("chain "+op.Chain.Name))
		case AddElements, DeleteElements:
			verb := "add"
			if op.Kind == DeleteElements {
				verb = "delete"
			}
			for _, e := range op.Elements {
				fmt.Fprintf(&b, "%s %s { %s }\n", verb, tableItem("element "+e.Set), e)
			}
		case DeleteChain:
			fmt.Fprintf(&b, "delete %s\n", tableItem("chain "+op.Chain.Name))
		case DeleteSet:
			fmt.Fprintf(&b, "delete %s\n", tableItem(op.Set.header()))
		}
	}
	return b.String()
}

// tableItem puts the table's name between the kind of a thing and its name.
func tableItem(item string) string {
	kind, name, _ := strings.Cut(item, " ")
	return fmt.Sprintf("%s ip %s %s", kind, TableName, name)
}

// content is a Ruleset as it is in the kernel, with what is needed to know
// what a change of some parts means for the whole.
type content struct {
	parts      []*Part
	references map[Element]int // how many parts have the element
}

// change is a Transaction from a content to another, and the other's
// reference counts where they differ.
type change struct {
	transaction Transaction
	parts       []*Part
	references  map[Element]int
}

// changeTo returns what must be done to a content to make it that of a
// Ruleset. Its cost grows with the parts that differ; equal ones cost a
// comparison of pointers.
func (c content) changeTo(want Ruleset) change {
	var builder changeBuilder
	builder.base = c.references
	builder.references = map[Element]int{}
	old, next := c.parts, want.Parts
	for len(old) > 0 || len(next) > 0 {
		switch {
		case len(old) > 0 && len(next) > 0 && old[0] == next[0]:
			old, next = old[1:], next[1:]
		case len(next) == 0 || len(old) > 0 && old[0].Name < next[0].Name:
			builder.part(old[0], &Part{})
			old = old[1:]
		case len(old) == 0 || next[0].Name < old[0].Name:
			builder.part(&Part{}, next[0])
			next = next[1:]
		default:
			builder.part(old[0], next[0])
			old, next = old[1:], next[1:]
		}
	}
	return change{transaction: builder.finish(), parts: want.Parts, references: builder.references}
}

// applied returns the content after a change was committed.
func (c content) applied(made change) content {
	if c.references == nil {
		c.references = map[Element]int{}
	}
	for element, n := range made.references {
		if n == 0 {
			delete(c.references, element)
		} else {
			c.references[element] = n
		}
	}
	c.parts = made.parts
	return c
}

// changeBuilder collects the ops of each kind: their order in a Transaction
// is what keeps every reference valid.
type changeBuilder struct {
	base       map[Element]int
	references map[Element]int // where it differs from base

	addSets, addChains, flush, addRules, deleteChains, deleteSets Transaction
}

// part adds the ops that turn one part into another. Of a thing whose
// definition changed the old is deleted and the new is added.
func (b *changeBuilder) part(old, next *Part) {
	for _, e := range old.Elements {
		b.count(e, -1)
	}
	for _, e := range next.Elements {
		b.count(e, +1)
	}
	had := map[string]string{}
	for _, set := range old.Sets {
		had[set.Name] = set.definition()
	}
	for _, set := range next.Sets {
		if _, ok := had[set.Name]; !ok {
			b.addSets = append(b.addSets, Op{Kind: AddSet, Set: set})
		}
	}
	for _, set := range old.Sets {
		if !slices.ContainsFunc(next.Sets, func(s Set) bool { return s.Name == set.Name }) {
			b.deleteSets = append(b.deleteSets, Op{Kind: DeleteSet, Set: set})
		}
	}
	b.chains(old.Chains, next.Chains)
}

func (b *changeBuilder) chains(old, next []Chain) {
	had := map[string]Chain{}
	for _, chain := range old {
		had[chain.Name] = chain
	}
	for _, chain := range next {
		before, ok := had[chain.Name]
		delete(had, chain.Name)
		switch {
		case !ok:
			b.addChains = append(b.addChains, Op{Kind: AddChain, Chain: chain})
		case slices.Equal(rulesText(before), rulesText(chain)):
			continue
		case len(before.Rules) > 0:
			b.flush = append(b.flush, Op{Kind: FlushChain, Chain: before})
		}
		if len(chain.Rules) > 0 {
			b.addRules = append(b.addRules, Op{Kind: AddRules, Chain: chain})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(had)) {
		b.flush = append(b.flush, Op{Kind: FlushChain, Chain: had[name]})
		b.deleteChains = append(b.deleteChains, Op{Kind: DeleteChain, Chain: had[name]})
	}
}

func (b *changeBuilder) count(e Element, by int) {
	if _, ok := b.references[e]; !ok {
		b.references[e] = b.base[e]
	}
	b.references[e] += by
}

// finish orders the ops: what others refer to is added first and deleted last.
func (b *changeBuilder) finish() Transaction {
	var gone, come []Element
	for e, n := range b.references {
		switch before := b.base[e]; {
		case before > 0 && n == 0:
			gone = append(gone, e)
		case before == 0 && n > 0:
			come = append(come, e)
		case before == n:
			delete(b.references, e)
		}
	}
	return slices.Concat(b.addSets, b.addChains, b.flush, b.addRules,
		elementOps(DeleteElements, gone), elementOps(AddElements, come), b.deleteChains, b.deleteSets)
}

// elementOps returns an op for each set that the elements are of.
func elementOps(kind OpKind, elements []Element) Transaction {
	bySet := map[string][]Element{}
	for _, e := range elements {
		bySet[e.Set] = append(bySet[e.Set], e)
	}
	var ops Transaction
	for _, set := range slices.Sorted(maps.Keys(bySet)) {
		slices.SortFunc(bySet[set], func(x, y Element) int { return x.Key.compare(y.Key) })
		ops = append(ops, Op{Kind: kind, Set: Set{Name: set}, Elements: bySet[set]})
	}
	return ops
}

func rulesText(c Chain) []string {
	texts := make([]string, len(c.Rules))
	for i, rule := range c.Rules {
		texts[i] = rule.String()
	}
	return texts
}
