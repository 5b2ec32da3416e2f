package proxy

import (
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
	Chains map[string][]uint64       // by name: the identity of each rule
	Sets   map[string]map[Key]string // by name: the elements; none of sets that packets fill
}

// Equal says whether two tables hold the same.
func (c Contents) Equal(o Contents) bool {
	return maps.EqualFunc(c.Chains, o.Chains, slices.Equal) &&
		maps.EqualFunc(c.Sets, o.Sets, func(x, y map[Key]string) bool { return maps.Equal(x, y) })
}

// Contents returns what a table that holds exactly this Ruleset has.
func (r Ruleset) Contents() Contents {
	c := Contents{Chains: map[string][]uint64{}, Sets: map[string]map[Key]string{}}
	for _, part := range r.Parts {
		for _, set := range part.Sets {
			c.Sets[set.Name] = map[Key]string{}
		}
		for _, chain := range part.Chains {
			c.Chains[chain.Name] = nil
			for _, rule := range chain.Rules {
				c.Chains[chain.Name] = append(c.Chains[chain.Name], rule.identity())
			}
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
	generation uint32 // that content was seen in; 0 when that is not known
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
// one transaction, so that at no moment a packet meets less than the old or
// the new rules. What Set did before is taken as still there while the
// kernel's generation says so; else the table is read, and, if it is not as
// it should be, replaced. An error means that nothing changed.
func (t *Table) Set(want Ruleset) error {
	var failed error
	for range 8 {
		done, err := t.try(want)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			continue
		case errors.Is(err, ErrChanged):
			t.stats.Foreign++
			t.generation = 0
		case failed != nil:
			return fmt.Errorf("set nftables table %s: %w", TableName, err)
		default: // our picture of the table is wrong, or a write is refused: once more, from nothing
			t.content, t.generation = content{}, 0
		}
		failed = errors.Join(failed, err)
	}
	return fmt.Errorf("set nftables table %s: %w", TableName, failed)
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

// try makes one attempt at Set.
func (t *Table) try(want Ruleset) (done bool, err error) {
	if t.generation == 0 {
		if err := t.look(want); err != nil {
			return false, err
		}
	}
	made := t.content.changeTo(want)
	transaction := made.transaction
	replaces := t.content.parts == nil
	if replaces {
		transaction = append(Transaction{{Kind: ReplaceTable}}, transaction...)
	}
	if len(transaction) == 0 {
		t.content.parts = want.Parts
		return true, nil
	}
	if err := t.kernel.Commit(transaction, t.generation); err != nil {
		return false, err
	}
	t.content = t.content.applied(made)
	t.generation = nextGeneration(t.generation)
	t.stats.Commits++
	t.stats.Ops += len(transaction)
	if replaces {
		t.stats.Replaced++
	}
	return true, nil
}

// look finds out what the table holds: what was applied last, or what is
// wanted (left by the process before this one), or something to replace.
func (t *Table) look(want Ruleset) error {
	generation, err := t.kernel.Generation()
	if err != nil {
		return err
	}
	found, err := t.kernel.Contents()
	if err != nil {
		return err
	}
	switch {
	case t.content.parts != nil && found.Equal(Ruleset{t.content.parts}.Contents()):
	case found.Equal(want.Contents()):
		t.content = content{}
		t.content = t.content.applied(t.content.changeTo(want))
	default:
		t.content = content{}
	}
	// What was found is of this generation only if it is still the present one.
	after, err := t.kernel.Generation()
	if err != nil {
		return err
	}
	if after != generation {
		return ErrChanged
	}
	t.generation = generation
	return nil
}

// nextGeneration returns the number after a generation, as the kernel counts.
func nextGeneration(n uint32) uint32 { return max(n+1, 1) }
