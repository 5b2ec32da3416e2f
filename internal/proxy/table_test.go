package proxy

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// TestKernels holds for every Kernel: one suite for the fake and the real one.
func TestKernels(t *testing.T) {
	for name, open := range kernels(t) {
		t.Run(name, func(t *testing.T) {
			t.Run("empty", func(t *testing.T) {
				contents, err := open(t).Contents()
				if err != nil || !contents.Equal(Contents{}) {
					t.Errorf("Contents of no table: %v, %v", contents, err)
				}
			})
			t.Run("generation", func(t *testing.T) { testGeneration(t, open(t)) })
			t.Run("atomic", func(t *testing.T) { testAtomic(t, open(t)) })
			t.Run("refused", func(t *testing.T) { testErrors(t, open(t)) })
			t.Run("any ruleset after any other", func(t *testing.T) { testAnyToAny(t, open(t)) })
			t.Run("many endpoints", func(t *testing.T) {
				kernel := open(t)
				state := manyServices(1)
				state.EndpointSlices[0] = manyEndpoints("s0000", 0, 2500)
				want := Compile(state)
				set(t, NewTable(kernel), want)
				holds(t, kernel, want)
			})
		})
	}
}

func testGeneration(t *testing.T, kernel Kernel) {
	before, err := kernel.Generation()
	if err != nil {
		t.Fatal(err)
	}
	if err := kernel.Commit(Transaction{{Kind: ReplaceTable}}, before); err != nil {
		t.Fatal(err)
	}
	after, err := kernel.Generation()
	if err != nil || after != nextGeneration(before) {
		t.Errorf("generation after one commit: %d, %v, want the one after %d", after, err, before)
	}
	err = kernel.Commit(Transaction{{Kind: AddChain, Chain: Chain{Name: "late"}}}, before)
	if !errors.Is(err, ErrChanged) {
		t.Errorf("Commit for an old generation: %v, want %v", err, ErrChanged)
	}
	if contents, _ := kernel.Contents(); len(contents.Chains) > 0 {
		t.Errorf("Commit for an old generation made %v", contents.Chains)
	}
}

func testAtomic(t *testing.T, kernel Kernel) {
	want := Compile(parseState(t, "service web ip=10.43.0.10 port=80\nslice web/a port=80\n10.42.0.5"))
	table := NewTable(kernel)
	set(t, table, want)
	generation, err := kernel.Generation()
	if err != nil {
		t.Fatal(err)
	}
	err = kernel.Commit(Transaction{
		{Kind: FlushChain, Chain: Chain{Name: chainDispatch}},
		{Kind: AddChain, Chain: Chain{Name: "new"}},
		{Kind: FlushChain, Chain: Chain{Name: "no such chain"}},
	}, generation)
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Commit with one bad op: %v, want %v", err, syscall.ENOENT)
	}
	holds(t, kernel, want)
	if now, _ := kernel.Generation(); now != generation {
		t.Errorf("generation after a failed commit: %d, want %d", now, generation)
	}
}

func testErrors(t *testing.T, kernel Kernel) {
	set(t, NewTable(kernel), Compile(parseState(t, "service web ip=10.43.0.10 port=80 affinity=60\nslice web/a port=80\n10.42.0.5")))
	chain, clients := "service/default/web/80", "affinity/default/web/80/10.42.0.5/80/60"
	taken := parseElement(setServices, "10.43.0.10", 80, chainRefuse)
	for _, c := range []struct {
		name string
		op   Op
		want error
	}{
		{"set that exists", Op{Kind: AddSet, Set: sharedSets[0]}, syscall.EEXIST},
		{"chain that exists", Op{Kind: AddChain, Chain: Chain{Name: chain}}, syscall.EEXIST},
		{"element that exists, with another value", Op{Kind: AddElements, Set: Set{Name: setServices}, Elements: []Element{taken}}, syscall.EEXIST},
		{"element to no chain", Op{Kind: AddElements, Set: Set{Name: setServices}, Elements: []Element{parseElement(setServices, "10.43.0.11", 80, "none")}}, syscall.ENOENT},
		{"element of no set", Op{Kind: AddElements, Set: Set{Name: "none"}, Elements: []Element{taken}}, syscall.ENOENT},
		{"deleted element that is none", Op{Kind: DeleteElements, Set: Set{Name: setServices}, Elements: []Element{parseElement(setServices, "10.43.0.11", 80, "")}}, syscall.ENOENT},
		{"deleted chain in use by a map", Op{Kind: DeleteChain, Chain: Chain{Name: chain}}, syscall.EBUSY},
		{"deleted chain in use by a rule", Op{Kind: DeleteChain, Chain: Chain{Name: "endpoint/default/web/80/10.42.0.5/80"}}, syscall.EBUSY},
		{"deleted set in use", Op{Kind: DeleteSet, Set: Set{Name: clients}}, syscall.EBUSY},
		{"deleted set that is none", Op{Kind: DeleteSet, Set: Set{Name: "none"}}, syscall.ENOENT},
		{"rule to no chain", Op{Kind: AddRules, Chain: Chain{Name: chain, Rules: []Rule{{goTo{"none"}}}}}, syscall.ENOENT},
		{"rule with no set", Op{Kind: AddRules, Chain: Chain{Name: chain, Rules: []Rule{{sourceIn{"none"}, drop{}}}}}, syscall.ENOENT},
		{"rule in no chain", Op{Kind: AddRules, Chain: Chain{Name: "none", Rules: []Rule{{drop{}}}}}, syscall.ENOENT},
	} {
		generation, err := kernel.Generation()
		if err != nil {
			t.Fatal(err)
		}
		if err := kernel.Commit(Transaction{c.op}, generation); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func parseElement(set, address string, port uint16, to string) Element {
	return Element{Set: set, Key: Key{Address: addresses4([]string{address})[0], Protocol: TCP, Port: port}, Goto: to}
}

// testAnyToAny sets random rulesets one after the other, each by what differs
// from the one before, and reads them back.
func testAnyToAny(t *testing.T, kernel Kernel) {
	model := NewModel(testNode)
	table := NewTable(kernel)
	set(t, table, model.Compile())
	rapid.Check(t, func(r *rapid.T) {
		for range rapid.IntRange(1, 4).Draw(r, "changes") {
			drawChange(t, r).to(model)
		}
		want := model.Compile()
		set(t, table, want)
		holds(t, kernel, want)
	})
	if table.Stats().Replaced != 1 {
		t.Errorf("the whole table was written %d times, want once, at the beginning", table.Stats().Replaced)
	}
}

// TestRestart: a process that finds the table as it wants it writes nothing;
// not quite as it wants it, the difference; with hooks elsewhere, all.
func TestRestart(t *testing.T) {
	for name, open := range kernels(t) {
		t.Run(name, func(t *testing.T) {
			kernel := open(t)
			state := manyServices(3)
			set(t, NewTable(kernel), Compile(state))

			same := NewTable(kernel)
			set(t, same, Compile(state))
			if got := same.Stats(); got.Commits != 0 {
				t.Errorf("same rules after a restart: %+v, want no commit", got)
			}
			state.EndpointSlices = state.EndpointSlices[1:]
			set(t, same, Compile(state))
			if got := same.Stats(); got.Commits != 1 || got.Replaced != 0 {
				t.Errorf("a change after a restart: %+v, want one commit of the difference", got)
			}
			holds(t, kernel, Compile(state))

			other := NewTable(kernel)
			set(t, other, Compile(manyServices(2)))
			if got := other.Stats(); got.Commits != 1 || got.Replaced != 0 {
				t.Errorf("other rules after a restart: %+v, want one commit of the difference", got)
			}
			holds(t, kernel, Compile(manyServices(2)))

			generation, err := kernel.Generation()
			if err != nil {
				t.Fatal(err)
			}
			moved := Chain{Name: "prerouting", Hook: &Hook{"nat", "prerouting", -50}}
			if err := kernel.Commit(Transaction{{Kind: ReplaceTable}, {Kind: AddChain, Chain: moved}}, generation); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Check(Compile(manyServices(2))); err != nil || other.Stats().Replaced != 1 {
				t.Errorf("hooks elsewhere: %+v, %v, want the table replaced", other.Stats(), err)
			}
			holds(t, kernel, Compile(manyServices(2)))
		})
	}
}

// TestRepair: what others do to the table is undone, by Check and by the next Set.
func TestRepair(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the nft command")
	}
	want := Compile(manyServices(3))
	less := manyServices(3)
	less.EndpointSlices = less.EndpointSlices[1:]
	for _, damage := range []string{
		"flush ruleset",
		"delete table ip windlass",
		"flush table ip windlass",
		"flush chain ip windlass dispatch",
		"flush set ip windlass hairpins",
		"delete element ip windlass services { 10.43.1.1 . tcp . 80 }",
		"add rule ip windlass dispatch drop",
		"add chain ip windlass stray",
	} {
		t.Run(damage, func(t *testing.T) {
			ns := newNamespace(t)
			kernel := realKernel(t, ns)
			table := NewTable(kernel)
			set(t, table, want)

			nft(t, ns, damage)
			if repaired, err := table.Check(want); err != nil || !repaired {
				t.Errorf("Check: %v, %v, want it repaired", repaired, err)
			}
			holds(t, kernel, want)
			if repaired, err := table.Check(want); err != nil || repaired {
				t.Errorf("Check again: %v, %v, want nothing to repair", repaired, err)
			}

			nft(t, ns, damage)
			set(t, table, Compile(less))
			holds(t, kernel, Compile(less))
		})
	}
	t.Run("another's table", func(t *testing.T) {
		ns := newNamespace(t)
		table := NewTable(realKernel(t, ns))
		set(t, table, want)
		nft(t, ns, "add table ip others")
		if repaired, err := table.Check(want); err != nil || repaired {
			t.Errorf("Check: %v, %v, want nothing to repair", repaired, err)
		}
		set(t, table, Compile(less))
		if table.Stats().Replaced != 1 {
			t.Errorf("the table was replaced because somebody added another")
		}
	})
}

// TestSetFails: an error of the kernel comes back and the next Set starts from nothing.
func TestSetFails(t *testing.T) {
	kernel := NewMemory()
	table := NewTable(kernel)
	set(t, table, Compile(manyServices(1)))
	refused := errors.New("refused")
	kernel.Fail = func(Transaction) error { return refused }
	if err := table.Set(Compile(manyServices(2))); !errors.Is(err, refused) {
		t.Fatalf("Set: %v, want %v", err, refused)
	}
	holds(t, kernel, Compile(manyServices(1)))

	once := true
	kernel.Fail = func(t Transaction) error {
		if once {
			once = false
			return fmt.Errorf("a picture that was wrong: %w", syscall.ENOENT)
		}
		return nil
	}
	set(t, table, Compile(manyServices(2)))
	holds(t, kernel, Compile(manyServices(2)))
}

func set(t *testing.T, table *Table, want Ruleset) {
	t.Helper()
	if err := table.Set(want); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, kernel Kernel, want Ruleset) {
	t.Helper()
	got, err := kernel.Contents()
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(want.Contents()) {
		t.Fatalf("the table has\n%v\nwant\n%v", got, want.Contents())
	}
}

func nft(t testing.TB, ns *namespace, script string) {
	t.Helper()
	ns.do(func() {
		if out, err := exec.Command("nft", script).CombinedOutput(); err != nil {
			t.Errorf("nft %s: %v: %s", script, err, out)
		}
	})
}
