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

// change is a Transaction from a content to another.
type change struct {
	transaction Transaction
	parts       []*Part         // of the other
	before      map[Element]int // the reference counts of the one
	references  map[Element]int // of the other, where they differ
}

// changeTo returns what must be done to a content to make it that of a
// Ruleset. Its cost grows with the parts that differ; equal ones cost a
// comparison of pointers.
func (c content) changeTo(want Ruleset) change {
	if c.references == nil {
		c.references = map[Element]int{}
	}
	builder := changeBuilder{base: c.references, references: map[Element]int{}}
	differing(c.parts, want.Parts, builder.part)
	return change{builder.finish(), want.Parts, builder.base, builder.references}
}

// differing calls each with the parts of that name in two sorted lists that are
// not the same Part; what is missing is an empty Part.
func differing(old, next []*Part, each func(old, next *Part)) {
	for len(old) > 0 || len(next) > 0 {
		switch {
		case len(old) > 0 && len(next) > 0 && old[0] == next[0]:
			old, next = old[1:], next[1:]
		case len(next) == 0 || len(old) > 0 && old[0].Name < next[0].Name:
			each(old[0], &Part{})
			old = old[1:]
		case len(old) == 0 || next[0].Name < old[0].Name:
			each(&Part{}, next[0])
			next = next[1:]
		default:
			each(old[0], next[0])
			old, next = old[1:], next[1:]
		}
	}
}

// done returns the content after the change was committed. That of before is
// used up.
func (c change) done() content {
	for element, n := range c.references {
		if n == 0 {
			delete(c.before, element)
		} else {
			c.before[element] = n
		}
	}
	return content{parts: c.parts, references: c.before}
}

// changeBuilder collects the ops of each kind: their order in a Transaction
// is what keeps every reference valid.
type changeBuilder struct {
	base       map[Element]int
	references map[Element]int // where it differs from base

	addSets, addChains, flush, addRules, deleteChains, deleteSets Transaction
}

// part adds the ops that turn one part into another.
func (b *changeBuilder) part(old, next *Part) {
	for _, e := range old.Elements {
		b.count(e, -1)
	}
	for _, e := range next.Elements {
		b.count(e, +1)
	}
	b.sets(old.Sets, next.Sets)
	b.chains(old.Chains, next.Chains)
}

// sets compares by name: what a set is never changes under the same name.
func (b *changeBuilder) sets(old, next []Set) {
	had := map[string]Set{}
	for _, set := range old {
		had[set.Name] = set
	}
	for _, set := range next {
		if _, ok := had[set.Name]; !ok {
			b.addSets = append(b.addSets, Op{Kind: AddSet, Set: set})
		}
		delete(had, set.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(had)) {
		b.deleteSets = append(b.deleteSets, Op{Kind: DeleteSet, Set: had[name]})
	}
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
		case slices.Equal(before.identities(), chain.identities()):
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

// identities returns what a chain's rules are known by.
func (c Chain) identities() []uint64 {
	var all []uint64
	for _, rule := range c.Rules {
		all = append(all, rule.identity())
	}
	return all
}

// readBack is the only term of a rule that was read from the kernel: all that
// is known of it is its identity.
type readBack struct{ identity uint64 }

func (t readBack) String() string { return fmt.Sprintf("rule %016x", t.identity) }

// changeTo returns what must be done to a table that was read back to make it
// that of a Ruleset. A table whose base chains are not where they should be is
// replaced as a whole.
func (c Contents) changeTo(want Ruleset) change {
	var all Part
	for _, part := range want.Parts {
		all.Sets = append(all.Sets, part.Sets...)
		all.Chains = append(all.Chains, part.Chains...)
		all.Elements = append(all.Elements, part.Elements...)
	}
	replace := c.Chains == nil
	for _, chain := range all.Chains {
		found, ok := c.Chains[chain.Name]
		replace = replace || ok && found.Hook != chain.Hook.String()
	}
	var begin Transaction
	if replace {
		begin, c = Transaction{{Kind: ReplaceTable}}, Contents{}
	}
	found, references := c.part()
	builder := changeBuilder{base: references, references: map[Element]int{}}
	builder.part(found, &all)
	return change{append(begin, builder.finish()...), want.Parts, builder.base, builder.references}
}

// part returns what was read back as one part, and its elements.
func (c Contents) part() (*Part, map[Element]int) {
	part, references := &Part{}, map[Element]int{}
	for _, name := range slices.Sorted(maps.Keys(c.Sets)) {
		part.Sets = append(part.Sets, Set{Name: name})
		for key, to := range c.Sets[name] {
			e := Element{Set: name, Key: key, Goto: to}
			part.Elements = append(part.Elements, e)
			references[e] = 1
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Chains)) {
		chain := Chain{Name: name}
		for _, identity := range c.Chains[name].Rules {
			chain.Rules = append(chain.Rules, Rule{readBack{identity}})
		}
		part.Chains = append(part.Chains, chain)
	}
	return part, references
}
