package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrChanged is returned by Kernel.Commit when somebody changed the kernel's
// rules since the generation that the transaction was made for.
var ErrChanged = errors.New("the rules were changed by somebody else")

// Kernel is the edge that a Table writes to. Netlink is the real one and
// Memory the fake; the same tests hold for both.
type Kernel interface {
	// Generation returns the number of the present rules. Each commit of
	// anybody in the network namespace adds 1; 0 is left out.
	Generation() (uint32, error)

	// Contents returns what the table holds now, with no guarantee that it is
	// of one generation.
	Contents() (Contents, error)

	// Commit makes all changes of a transaction at once, or none and returns an
	// error: ErrChanged when the generation is not the present one.
	Commit(t Transaction, generation uint32) error
}

// Contents is what can be read back of a table, enough to tell whether it is
// as it was left. The zero Contents is that of no table.
type Contents struct {
	Chains map[string]ChainContents
	Sets   map[string]map[Key]string // by name: the elements; none of sets that packets fill
}

// ChainContents is what can be read back of a chain.
type ChainContents struct {
	Hook  string   // as Hook.String has it; empty without
	Rules []uint64 // the identity of each
}

// Equal says whether two tables hold the same.
func (c Contents) Equal(o Contents) bool {
	same := func(x, y ChainContents) bool { return x.Hook == y.Hook && slices.Equal(x.Rules, y.Rules) }
	return maps.EqualFunc(c.Chains, o.Chains, same) &&
		maps.EqualFunc(c.Sets, o.Sets, func(x, y map[Key]string) bool { return maps.Equal(x, y) })
}

// Contents returns what a table that holds exactly this Ruleset has.
func (r Ruleset) Contents() Contents {
	c := Contents{Chains: map[string]ChainContents{}, Sets: map[string]map[Key]string{}}
	for _, part := range r.Parts {
		for _, set := range part.Sets {
			c.Sets[set.Name] = map[Key]string{}
		}
		for _, chain := range part.Chains {
			c.Chains[chain.Name] = ChainContents{Hook: chain.Hook.String(), Rules: chain.identities()}
		}
	}
	for _, part := range r.Parts {
		for _, e := range part.Elements {
			c.Sets[e.Set][e.Key] = e.Goto
		}
	}
	return c
}

// Table keeps the kernel's table equal to a Ruleset. It is not safe for
// concurrent use.
type Table struct {
	kernel     Kernel
	content    content
	generation uint32 // of the kernel's rules when the table held content; 0 when that is not known
	stats      TableStats
}

// TableStats counts what a Table has done since it was made.
type TableStats struct {
	Commits  int // transactions that the kernel took
	Ops      int // changes in them
	Replaced int // of the commits: those that wrote the whole table anew
	Foreign  int // times that somebody else had changed the kernel's rules, though not always this table
}

// NewTable returns a Table over a kernel whose content is not known yet.
func NewTable(kernel Kernel) *Table { return &Table{kernel: kernel} }

// Stats returns the counts so far.
func (t *Table) Stats() TableStats { return t.stats }

// Set makes the kernel's table that of the Ruleset, whatever it was before, in
// one transaction of what differs, so that at no moment a packet meets less
// than the old or the new rules. What was set last is taken as still there
// while the kernel's generation says so; else the table is read. An error
// means that nothing changed.
func (t *Table) Set(want Ruleset) error {
	var errs []error
	for range 8 {
		err := t.try(want, len(errs) == 1)
		if err == nil {
			return nil
		}
		t.generation = 0
		if errors.Is(err, ErrChanged) {
			t.stats.Foreign++
			continue
		}
		// Our picture of the table is wrong, or a write is refused. Once more, from nothing.
		if errs = append(errs, err); len(errs) == 2 {
			return fmt.Errorf("set nftables table %s: %w", TableName, errors.Join(errs...))
		}
	}
	return fmt.Errorf("set nftables table %s: %w", TableName, ErrChanged)
}

// Check repairs the table when somebody else has changed it since the last
// Set, and says whether it had to. It is cheap when nobody has.
func (t *Table) Check(want Ruleset) (repaired bool, err error) {
	present, err := t.kernel.Generation()
	if err != nil {
		return false, fmt.Errorf("read nftables generation: %w", err)
	}
	if present == t.generation {
		return false, nil
	}
	t.stats.Foreign++
	t.generation = 0
	before := t.stats.Commits
	err = t.Set(want)
	return t.stats.Commits > before, err
}

// try makes one attempt at Set. When our picture of the table is not to be
// trusted, anew replaces it all.
func (t *Table) try(want Ruleset, anew bool) error {
	made, err := t.change(want, anew)
	if err != nil {
		return err
	}
	if len(made.transaction) > 0 {
		if err := t.kernel.Commit(made.transaction, t.generation); err != nil {
			return err
		}
		t.generation = nextGeneration(t.generation)
		t.stats.Commits++
		t.stats.Ops += len(made.transaction)
		if made.transaction[0].Kind == ReplaceTable {
			t.stats.Replaced++
		}
	}
	t.content = made.done()
	return nil
}

// change returns what is to do, from what was set last if that is still
// there, or else from what is there.
func (t *Table) change(want Ruleset, anew bool) (change, error) {
	if t.generation != 0 {
		return t.content.changeTo(want), nil
	}
	generation, err := t.kernel.Generation()
	if err != nil {
		return change{}, err
	}
	found, err := t.kernel.Contents()
	if err != nil {
		return change{}, err
	}
	// What was read is of this generation only if it is still the present one.
	if after, err := t.kernel.Generation(); err != nil || after != generation {
		return change{}, cmp.Or(err, ErrChanged)
	}
	t.generation = generation
	if t.content.parts != nil && !anew && found.Equal(Ruleset{t.content.parts}.Contents()) {
		return t.content.changeTo(want), nil
	}
	if anew {
		found = Contents{}
	}
	return found.changeTo(want), nil
}

// Forget deletes elements that packets made, of sets that the Ruleset last set
// has. It fails while what the kernel has is not known.
func (t *Table) Forget(elements []Element) error {
	if len(elements) == 0 {
		return nil
	}
	if t.generation == 0 {
		return fmt.Errorf("forget %d elements: the table is to be looked at first", len(elements))
	}
	err := t.kernel.Commit(elementOps(DeleteElements, elements), t.generation)
	if err != nil {
		t.generation = 0 // look before the next change
		return fmt.Errorf("forget %d elements: %w", len(elements), err)
	}
	t.generation = nextGeneration(t.generation)
	t.stats.Commits++
	return nil
}

// nextGeneration returns the number after a generation, as the kernel counts.
func nextGeneration(n uint32) uint32 { return max(n+1, 1) }
