package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"windlass.dev/windlass/api/v1alpha1"
)

func connections(n int64) v1alpha1.TrafficCount { return v1alpha1.TrafficCount{Connections: n} }

// TestLedger: whatever is sent, read, tidied and flushed in whatever order, no
// sum goes down, and without a flush each is what was sent to its Service.
func TestLedger(t *testing.T) {
	ways := []string{"10.43.0.1:80", "10.43.0.2:80", "192.168.1.2:30001"}
	owners := map[string]string{ways[0]: "default/a", ways[1]: "default/b", ways[2]: "default/a"}
	owner := func(way netip.AddrPort) string { return owners[way.String()] }
	rapid.Check(t, func(r *rapid.T) {
		kernel, l, now := NewMemory(), newLedger(), time.Unix(0, 0)
		table := NewTable(kernel)
		rules := Compile(State{Node: testNode})
		set(t, table, rules)
		sent, flushed := map[string]v1alpha1.TrafficCount{}, false
		listed := map[netip.Addr]bool{}
		inUse := func(p Path) bool { return listed[p.Endpoint.Addr()] }
		read := func() {
			before := maps.Clone(l.sums)
			l.read(mustCount(t, kernel), owner, now)
			for name, was := range before {
				if is := l.sums[name]; is.Connections < was.Connections || is.Refused < was.Refused || is.Reset < was.Reset {
					r.Fatalf("%s went from %+v to %+v", name, was, is)
				}
			}
		}
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			endpoint := netip.MustParseAddrPort(rapid.SampledFrom([]string{"10.42.0.5:80", "10.42.0.6:80"}).Draw(r, "endpoint"))
			switch rapid.SampledFrom([]string{"send", "send", "send", "read", "wait", "tidy", "list", "flush"}).Draw(r, "step") {
			case "send":
				way := rapid.SampledFrom(ways).Draw(r, "way")
				more := v1alpha1.TrafficCount{Connections: rapid.Int64Range(0, 3).Draw(r, "connections"),
					Refused: rapid.Int64Range(0, 3).Draw(r, "refused"), Reset: rapid.Int64Range(0, 3).Draw(r, "reset")}
				kernel.Send(Path{netip.MustParseAddrPort(way), endpoint}, more)
				sent[owners[way]] = plus(sent[owners[way]], more)
				listed[endpoint.Addr()] = true
			case "list":
				listed[endpoint.Addr()] = rapid.Bool().Draw(r, "listed")
			case "wait":
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, forgetAfter}).Draw(r, "time"))
			case "read":
				read()
			case "tidy":
				read()
				stale := l.stale(inUse, now)
				if err := table.Forget(stale); err != nil {
					r.Fatal(err)
				}
				l.forgotten(stale)
			case "flush":
				kernel.Flush()
				set(t, table, rules)
				_, err := table.Check(rules)
				flushed = true
				if err != nil {
					r.Fatal(err)
				}
			}
		}
		read()
		for name := range sent {
			if !flushed && l.sums[name] != sent[name] {
				r.Fatalf("%s: %+v, want %+v", name, l.sums[name], sent[name])
			}
		}
	})
}

// TestTidy: the counters of pods that are gone leave the kernel when they have
// been still for a while, and stay in the sums.
func TestTidy(t *testing.T) {
	for name, open := range kernels(t) {
		t.Run(name, func(t *testing.T) {
			kernel := open(t)
			table := NewTable(kernel)
			set(t, table, Compile(State{Node: testNode}))
			stays := Path{netip.MustParseAddrPort("10.43.0.1:80"), netip.MustParseAddrPort("10.42.0.5:8080")}
			goes := Path{stays.Way, netip.MustParseAddrPort("10.42.0.6:8080")}
			for _, path := range []Path{stays, goes} {
				generation, err := kernel.Generation()
				if err != nil {
					t.Fatal(err)
				}
				if err := kernel.Commit(elementOps(AddElements, []Element{{Set: setConnections, Key: path.key()}, {Set: setReset, Key: path.key()}}), generation); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := table.Check(Compile(State{Node: testNode})); err != nil {
				t.Fatal(err)
			}
			l := newLedger()
			read := map[Path]v1alpha1.TrafficCount{stays: connections(3), goes: {Connections: 2, Reset: 1}}
			l.read(read, func(netip.AddrPort) string { return "default/web" }, time.Unix(0, 0))
			inUse := func(p Path) bool { return p == stays }
			if early := l.stale(inUse, time.Unix(0, 0).Add(forgetAfter-1)); len(early) > 0 {
				t.Errorf("%v would be forgotten at once", early)
			}
			if err := table.Forget(l.stale(inUse, time.Unix(0, 0).Add(forgetAfter))); err != nil {
				t.Fatal(err)
			}
			left := mustCount(t, kernel.(Counters))
			if _, ok := left[goes]; ok || len(left) != 1 {
				t.Errorf("left: %v, want only %v", left, stays)
			}
			if got, want := l.sums["default/web"], (v1alpha1.TrafficCount{Connections: 5, Reset: 1}); got != want {
				t.Errorf("sum %+v, want %+v", got, want)
			}
			replaced := table.Stats().Replaced
			set(t, table, Compile(manyServices(1)))
			if table.Stats().Replaced != replaced {
				t.Error("the table was replaced after counters were forgotten")
			}
			if len(mustCount(t, kernel.(Counters))) != 1 {
				t.Error("a change of endpoints took counters away")
			}
		})
	}
}

// TestOwner: the Service that a path belongs to is the one that has its address,
// or else its node port, and what has none is nobody's.
func TestOwner(t *testing.T) {
	model := NewModel(testNode)
	for _, service := range parseState(t, `
		service web type=NodePort ip=10.43.0.10 port=80:30080
		service other ip=10.43.0.11 port=80 external=192.168.1.2
		service dns ip=10.43.0.12 port=53/udp`).Services {
		model.SetService(service)
	}
	model.Compile()
	for way, want := range map[string]string{
		"10.43.0.10:80": "default/web", "127.0.0.1:30080": "default/web", "192.168.1.2:30080": "default/web",
		"192.168.1.2:80": "default/other", "10.43.0.12:53": "", "10.43.0.10:81": "",
	} {
		if got := model.Owner(netip.MustParseAddrPort(way)); got != want {
			t.Errorf("%s belongs to %q, want %q", way, got, want)
		}
	}
	if !model.Serves("default/web") || model.Serves("default/none") {
		t.Error("Serves is wrong")
	}
}

// failingCounters is a Counters that counts how often it is read, and fails when told.
type failingCounters struct {
	Counters
	reads atomic.Int64
	fail  atomic.Bool
}

func (c *failingCounters) Counts() (map[Path]v1alpha1.TrafficCount, error) {
	c.reads.Add(1)
	if c.fail.Load() {
		return nil, errors.New("no counters now")
	}
	counts, err := c.Counters.Counts()
	if err != nil {
		return nil, fmt.Errorf("fake: %w", err)
	}
	return counts, nil
}
