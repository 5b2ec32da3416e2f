package proxy

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"

	"windlass.dev/windlass/api/v1alpha1"
)

// Memory is a Kernel that lives in memory: it keeps one table, changes it
// atomically, and refuses what the real one refuses. For tests, and for nodes
// that forward nothing.
type Memory struct {
	mu         sync.Mutex
	generation uint32
	table      *memoryTable

	// Fail, when set, is asked before each commit; its error fails the commit.
	Fail func(Transaction) error
}

type memoryTable struct {
	sets   map[string]memorySet
	chains map[string]Chain
}

type memorySet struct {
	Set
	elements map[Key]string
	packets  map[Key]uint64 // counted by those that have a counter
}

// NewMemory returns a kernel without a table.
func NewMemory() *Memory { return &Memory{generation: 1} }

// Generation implements Kernel.
func (m *Memory) Generation() (uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.generation, nil
}

// Contents implements Kernel.
func (m *Memory) Contents() (Contents, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.table == nil {
		return Contents{}, nil
	}
	c := Contents{Chains: map[string]ChainContents{}, Sets: map[string]map[Key]string{}}
	for name, set := range m.table.sets {
		c.Sets[name] = map[Key]string{}
		if !set.Dynamic {
			c.Sets[name] = maps.Clone(set.elements)
		}
	}
	for name, chain := range m.table.chains {
		c.Chains[name] = ChainContents{Hook: chain.Hook.String(), Rules: chain.identities()}
	}
	return c, nil
}

// Counts implements Counters.
func (m *Memory) Counts() (map[Path]v1alpha1.TrafficCount, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[Path]v1alpha1.TrafficCount{}
	if m.table != nil {
		for _, set := range pathSets {
			for key := range m.table.sets[set.Name].elements {
				addCount(counts, set.Name, key, m.table.sets[set.Name].packets[key])
			}
		}
	}
	return counts, nil
}

// Send counts traffic on a path, as the rules would. It does nothing when they
// are not there.
func (m *Memory) Send(path Path, more v1alpha1.TrafficCount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, n := range map[string]int64{setConnections: more.Connections, setRefused: more.Refused, setReset: more.Reset} {
		if m.table == nil || n == 0 {
			continue
		}
		if set, ok := m.table.sets[name]; ok {
			set.elements[path.key()] = ""
			set.packets[path.key()] += uint64(n)
		}
	}
}

// Flush removes the table, as `nft flush ruleset` of somebody else would.
func (m *Memory) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.table = nil
	m.generation = nextGeneration(m.generation)
}

// Commit implements Kernel. Errors are those of the kernel: ENOENT, EEXIST, EBUSY.
func (m *Memory) Commit(t Transaction, generation uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if generation != m.generation {
		return ErrChanged
	}
	if m.Fail != nil {
		if err := m.Fail(t); err != nil {
			return err
		}
	}
	next := m.table.clone()
	for _, op := range t {
		var err error
		if next, err = next.apply(op); err != nil {
			return err
		}
	}
	m.table = next
	m.generation = nextGeneration(m.generation)
	return nil
}

func (t *memoryTable) clone() *memoryTable {
	if t == nil {
		return nil
	}
	c := &memoryTable{sets: map[string]memorySet{}, chains: maps.Clone(t.chains)}
	for name, set := range t.sets {
		c.sets[name] = memorySet{set.Set, maps.Clone(set.elements), maps.Clone(set.packets)}
	}
	return c
}

func (t *memoryTable) apply(op Op) (*memoryTable, error) {
	if op.Kind == ReplaceTable {
		return &memoryTable{sets: map[string]memorySet{}, chains: map[string]Chain{}}, nil
	}
	if t == nil {
		return nil, fmt.Errorf("table: %w", syscall.ENOENT)
	}
	var err error
	switch op.Kind {
	case AddSet, DeleteSet:
		err = t.applySet(op)
	case AddElements, DeleteElements:
		err = t.applyElements(op)
	default:
		err = t.applyChain(op)
	}
	return t, err
}

func (t *memoryTable) applySet(op Op) error {
	_, exists := t.sets[op.Set.Name]
	switch {
	case op.Kind == AddSet && exists:
		return fmt.Errorf("set %s: %w", op.Set.Name, syscall.EEXIST)
	case op.Kind == AddSet:
		t.sets[op.Set.Name] = memorySet{op.Set, map[Key]string{}, map[Key]uint64{}}
	case !exists:
		return fmt.Errorf("set %s: %w", op.Set.Name, syscall.ENOENT)
	case t.uses(func(x references) []string { return x.sets }, op.Set.Name):
		return fmt.Errorf("set %s: %w", op.Set.Name, syscall.EBUSY)
	default:
		delete(t.sets, op.Set.Name)
	}
	return nil
}

func (t *memoryTable) applyElements(op Op) error {
	set, ok := t.sets[op.Set.Name]
	if !ok {
		return fmt.Errorf("set %s: %w", op.Set.Name, syscall.ENOENT)
	}
	for _, e := range op.Elements {
		_, exists := set.elements[e.Key]
		_, chain := t.chains[e.Goto]
		switch {
		case op.Kind == DeleteElements && !exists:
			return fmt.Errorf("element %s of %s: %w", e, set.Name, syscall.ENOENT)
		case op.Kind == DeleteElements:
			delete(set.elements, e.Key)
			delete(set.packets, e.Key)
		case exists:
			return fmt.Errorf("element %s of %s: %w", e, set.Name, syscall.EEXIST)
		case e.Goto != "" && !chain:
			return fmt.Errorf("element %s of %s: chain: %w", e, set.Name, syscall.ENOENT)
		case (e.Goto != "") != set.Verdict:
			return fmt.Errorf("element %s of %s: %w", e, set.Name, syscall.EINVAL)
		default:
			set.elements[e.Key] = e.Goto
		}
	}
	return nil
}

func (t *memoryTable) applyChain(op Op) error {
	name := op.Chain.Name
	chain, exists := t.chains[name]
	switch {
	case op.Kind == AddChain && exists:
		return fmt.Errorf("chain %s: %w", name, syscall.EEXIST)
	case op.Kind == AddChain:
		t.chains[name] = Chain{Name: name, Hook: op.Chain.Hook}
	case !exists:
		return fmt.Errorf("chain %s: %w", name, syscall.ENOENT)
	case op.Kind == FlushChain:
		chain.Rules = nil
		t.chains[name] = chain
	case op.Kind == DeleteChain && t.chainUsed(name):
		return fmt.Errorf("chain %s: %w", name, syscall.EBUSY)
	case op.Kind == DeleteChain:
		delete(t.chains, name)
	case op.Kind == AddRules:
		for _, rule := range op.Chain.Rules {
			if err := t.resolve(rule); err != nil {
				return fmt.Errorf("chain %s: rule %s: %w", name, rule, err)
			}
		}
		chain.Rules = slices.Concat(chain.Rules, op.Chain.Rules)
		t.chains[name] = chain
	}
	return nil
}

func (t *memoryTable) chainUsed(name string) bool {
	for _, set := range t.sets {
		for _, target := range set.elements {
			if target == name {
				return true
			}
		}
	}
	return t.uses(func(x references) []string { return x.chains }, name)
}

func (t *memoryTable) uses(kind func(references) []string, name string) bool {
	for _, chain := range t.chains {
		for _, rule := range chain.Rules {
			for _, used := range kind(rule.references()) {
				if used == name {
					return true
				}
			}
		}
	}
	return false
}

func (t *memoryTable) resolve(rule Rule) error {
	refers := rule.references()
	for _, name := range refers.chains {
		if _, ok := t.chains[name]; !ok {
			return fmt.Errorf("chain %s: %w", name, syscall.ENOENT)
		}
	}
	for _, name := range refers.sets {
		if _, ok := t.sets[name]; !ok {
			return fmt.Errorf("set %s: %w", name, syscall.ENOENT)
		}
	}
	return nil
}

// references are the names that a rule uses.
type references struct{ chains, sets []string }

func (r Rule) references() references {
	var refers references
	for _, term := range r {
		switch t := term.(type) {
		case goTo:
			refers.chains = append(refers.chains, t.chain)
		case jumpTo:
			refers.chains = append(refers.chains, t.chain)
		case goToOneOf:
			refers.chains = append(refers.chains, t.chains...)
		case pairIn:
			refers.sets = append(refers.sets, t.set)
		case sourceIn:
			refers.sets = append(refers.sets, t.set)
		case dispatchAddress:
			refers.sets = append(refers.sets, t.set)
		case dispatchPort:
			refers.sets = append(refers.sets, t.set)
		case remember:
			refers.sets = append(refers.sets, t.set)
		case countPath:
			refers.sets = append(refers.sets, t.set)
		case endsFirst:
			refers.sets = append(refers.sets, t.set)
		}
	}
	return refers
}
