package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestFlows holds for every Flows.
func TestFlows(t *testing.T) {
	all := []Flow{
		flow(UDP, "10.42.0.9:4000", "10.43.0.10:53", "10.42.0.5:8080"),
		flow(UDP, "10.42.0.9:4001", "10.43.0.10:53", "10.42.0.6:8080"),
		flow(TCP, "10.42.0.9:4002", "10.43.0.10:80", "10.42.0.5:8080"),
		flow(TCP, "10.42.0.9:4003", "10.42.0.6:8080", "10.42.0.6:8080"),
	}
	for name, open := range map[string]func(*testing.T) Flows{
		"memory": func(*testing.T) Flows { return &MemoryFlows{Flows: slices.Clone(all)} },
		"kernel": func(t *testing.T) Flows {
			ns := newNamespace(t)
			ns.do(func() {
				for _, f := range all {
					if err := netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(syscall.AF_INET), entryOf(f)); err != nil {
						t.Errorf("create %v: %v", f, err)
					}
				}
			})
			return NewConntrack(int(ns.handle))
		},
	} {
		for _, c := range []struct {
			name     string
			protocol Protocol
			server   string
			want     []Flow
		}{
			{"all", 0, "", all},
			{"protocol", UDP, "", all[:2]},
			{"server", 0, "10.42.0.5", []Flow{all[0], all[2]}},
			{"protocol and server", TCP, "10.42.0.5", []Flow{all[2]}},
			{"none", SCTP, "", nil},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				flows := open(t)
				server, _ := netip.ParseAddr(c.server)
				var asked []Flow
				keep := func(f Flow) bool { asked = append(asked, f); return false }
				if n, err := flows.Forget(c.protocol, server, keep); n != 0 || err != nil {
					t.Errorf("kept all: %d, %v", n, err)
				}
				slices.SortFunc(asked, func(x, y Flow) int { return x.Client.Compare(y.Client) })
				if !slices.Equal(asked, c.want) {
					t.Errorf("asked about %v, want %v", asked, c.want)
				}
				if n, err := flows.Forget(c.protocol, server, func(Flow) bool { return true }); n != len(c.want) || err != nil {
					t.Errorf("forgot %d, %v, want %d", n, err, len(c.want))
				}
				left := 0
				if _, err := flows.Forget(0, netip.Addr{}, func(Flow) bool { left++; return false }); err != nil || left != len(all)-len(c.want) {
					t.Errorf("%d left, %v, want %d", left, err, len(all)-len(c.want))
				}
			})
		}
	}
}

func flow(protocol Protocol, from, to, server string) Flow {
	return Flow{Protocol: protocol, Client: netip.MustParseAddrPort(from), Destination: netip.MustParseAddrPort(to), Server: netip.MustParseAddrPort(server)}
}

func entryOf(f Flow) *netlink.ConntrackFlow {
	tuple := func(from, to netip.AddrPort) netlink.IPTuple {
		return netlink.IPTuple{Protocol: uint8(f.Protocol), SrcIP: net.IP(from.Addr().AsSlice()), SrcPort: from.Port(),
			DstIP: net.IP(to.Addr().AsSlice()), DstPort: to.Port()}
	}
	entry := &netlink.ConntrackFlow{FamilyType: syscall.AF_INET, Forward: tuple(f.Client, f.Destination), Reverse: tuple(f.Server, f.Client), TimeOut: 100}
	if f.Protocol == TCP {
		entry.ProtoInfo = &netlink.ProtoInfoTCP{State: 3}
	}
	return entry
}

// TestSweep says what is forgotten after which change.
func TestSweep(t *testing.T) {
	dns := func(endpoints string) Ruleset {
		return Compile(parseState(t, `
			service dns type=NodePort ip=10.43.0.10 port=dns:53/udp:30053 port=web:80:30080
			service other ip=10.43.0.11 port=53/udp affinity=60
			slice dns/a port=dns:8080/udp port=web:8080
			`+endpoints+`
			slice other/b port=53/udp
			10.42.0.5
			10.42.0.6`))
	}
	flows := []Flow{
		flow(UDP, "10.42.0.9:1", "10.43.0.10:53", "10.42.0.5:8080"),
		flow(UDP, "10.42.0.9:2", "10.43.0.10:53", "10.42.0.6:8080"),
		flow(UDP, "10.42.0.9:3", "10.43.0.10:53", "10.43.0.10:53"), // from before the Service
		flow(UDP, "10.42.0.9:4", "192.168.1.2:30053", "10.42.0.5:8080"),
		flow(UDP, "10.42.0.9:5", "192.0.2.1:30053", "192.0.2.1:30053"), // somebody else's
		flow(TCP, "10.42.0.9:6", "10.43.0.10:80", "10.42.0.5:8080"),    // ends by itself
		flow(UDP, "10.42.0.9:7", "10.43.0.11:53", "10.42.0.5:53"),
	}
	for _, c := range []struct {
		name     string
		old, now Ruleset
		gone     []netip.Addr
		want     []uint16 // the client ports of what is forgotten
	}{
		{"start", Ruleset{}, dns("10.42.0.5\n10.42.0.6"), nil, []uint16{3}},
		{"one leaves", dns("10.42.0.5\n10.42.0.6"), dns("10.42.0.5 terminating\n10.42.0.6"), nil, []uint16{1, 3, 4}},
		{"one comes", dns("10.42.0.5"), dns("10.42.0.5\n10.42.0.6"), nil, []uint16{3}},
		{"Service goes", dns("10.42.0.5\n10.42.0.6"), Ruleset{}, nil, []uint16{1, 2, 3, 4, 7}},
		{"no change", dns("10.42.0.5"), dns("10.42.0.5"), nil, nil},
		{"pod gone", Ruleset{}, Ruleset{}, []netip.Addr{netip.MustParseAddr("10.42.0.5")}, []uint16{1, 4, 6, 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			left := &MemoryFlows{Flows: slices.Clone(flows)}
			n, err := sweepAfter(c.old.Parts, c.now.Parts, c.gone).Apply(left)
			var forgotten []uint16
			for _, f := range flows {
				if !slices.Contains(left.Flows, f) {
					forgotten = append(forgotten, f.Client.Port())
				}
			}
			if err != nil || n != len(c.want) || !slices.Equal(forgotten, c.want) {
				t.Errorf("forgot %v (%d, %v), want %v", forgotten, n, err, c.want)
			}
		})
	}
}

// TestGone: a pod is gone when its last endpoint was terminating and is listed
// no more.
func TestGone(t *testing.T) {
	model := NewModel(testNode)
	set := func(lines string) {
		for _, s := range parseState(t, lines).EndpointSlices {
			model.SetSlice(s)
		}
	}
	expect := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, a := range model.Gone() {
			got = append(got, a.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: gone are %v, want %v", what, got, want)
		}
	}
	set("slice a/a-s port=80\n10.42.0.5\n10.42.0.6\nslice b/b-s port=80\n10.42.0.5\n10.42.0.7")
	expect("at first")
	set("slice a/a-s port=80\n10.42.0.5 terminating")
	expect("one not selected any more")
	set("slice b/b-s port=80\n10.42.0.5 terminating\n10.42.0.7 terminating")
	set("slice b/b-s port=80\n10.42.0.7 terminating")
	expect("still listed by another Service")
	set("slice a/a-s port=80")
	expect("listed by none", "10.42.0.5")
	expect("told once")
	model.DeleteSlice(parseState(t, "slice b/b-s").EndpointSlices[0])
	expect("slice deleted", "10.42.0.7")
	set("slice a/a-s port=80\n10.42.0.8 terminating")
	set("slice a/a-s port=80")
	set("slice b/b-s port=80\n10.42.0.8")
	expect("address taken again")
}

// TestDatagramsFollow: a client that sends from one port all the time is served
// by another endpoint once the rules and the sweep are through.
func TestDatagramsFollow(t *testing.T) {
	top := newTopology(t)
	top.pod("10.42.0.5").serve("one", ":8080")
	top.pod("10.42.0.6").serve("two", ":8080")
	old, conn := top.converse(web+"10.42.0.5", "udp4", "127.0.0.1:30053")
	next := Compile(parseState(t, web+"10.42.0.6"))
	top.node.must(top.table.Set(next))
	expectAnswer(t, conn, "one") // the flow is as old as before: this is what a sweep is for
	if n, err := sweepAfter(old.Parts, next.Parts, nil).Apply(NewConntrack(int(top.node.handle))); n != 1 || err != nil {
		t.Fatalf("forgot %d, %v, want 1", n, err)
	}
	expectAnswer(t, conn, "two")
}

// converse sets a state in which 10.42.0.5 answers as "one", and begins to talk
// to it from the node. The connection is closed when the test ends.
func (top *topology) converse(state, network, address string) (Ruleset, net.Conn) {
	top.t.Helper()
	compiled := Compile(parseState(top.t, state))
	top.node.must(top.table.Set(compiled))
	var conn net.Conn
	top.node.do(func() {
		var err error
		conn, err = net.Dial(network, address)
		top.node.must(err)
	})
	top.t.Cleanup(func() { _ = conn.Close() })
	expectAnswer(top.t, conn, "one")
	return compiled, conn
}

func expectAnswer(t testing.TB, conn net.Conn, want string) {
	t.Helper()
	if name, _, err := talk(conn); err != nil || name != want {
		t.Fatalf("%q answered, %v, want %q", name, err, want)
	}
}

// TestUnansweredFollow: a connection to an endpoint that died without a word is led
// to another once the rules and the sweep are through, when its client asks again.
func TestUnansweredFollow(t *testing.T) {
	top := newTopology(t)
	top.pod("10.42.0.6").serve("two", ":8080")
	dead := netip.MustParseAddr("10.42.0.5")
	top.node.do(func() { // nobody says that it is not there
		bridge, err := netlink.LinkByName(testNode.Bridge)
		top.node.must(err)
		top.node.must(netlink.NeighAdd(&netlink.Neigh{LinkIndex: bridge.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: dead.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 5}}))
	})
	old := Compile(parseState(t, web+"10.42.0.5"))
	top.node.must(top.table.Set(old))
	answered := make(chan string, 1)
	go top.node.do(func() {
		conn, err := net.DialTimeout("tcp4", "127.0.0.1:30080", time.Minute)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer func() { _ = conn.Close() }()
		name, _, err := talk(conn)
		answered <- fmt.Sprint(name, err)
	})
	conntrack := NewConntrack(int(top.node.handle))
	eventually(t, func() error {
		waits := 0
		if _, err := conntrack.Forget(TCP, dead, func(Flow) bool { waits++; return false }); err != nil || waits != 1 {
			return fmt.Errorf("%d connections wait for the dead endpoint, %w", waits, err)
		}
		return nil
	})
	next := Compile(parseState(t, web+"10.42.0.6"))
	top.node.must(top.table.Set(next))
	if n, err := (Sweep{Unanswered: sweepAfter(old.Parts, next.Parts, nil).left}).Apply(conntrack); n != 1 || err != nil {
		t.Fatalf("forgot %d, %v, want 1", n, err)
	}
	if got := <-answered; got != "two<nil>" {
		t.Errorf("the client heard %s", got)
	}
}

// TestPortOfADeadConnection: a pod went without a word, so that the kernel still
// knows a connection to it; a client that takes the same port again is served
// by another pod, once the sweep is through.
func TestPortOfADeadConnection(t *testing.T) {
	top := newTopology(t)
	top.pod("10.42.0.6").serve("two", ":8080")
	top.set(web + "10.42.0.6")
	top.node.do(func() {
		dead := flow(TCP, "127.0.0.1:45454", "127.0.0.1:30080", "10.42.0.5:8080")
		entry := entryOf(dead)
		entry.Reverse.DstIP = net.ParseIP("10.42.0.1").To4()
		top.node.must(netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(syscall.AF_INET), entry))
	})
	dial := func() error {
		var err error
		top.node.do(func() {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 45454}, Timeout: 500 * time.Millisecond}
			var conn net.Conn
			if conn, err = dialer.Dial("tcp4", "127.0.0.1:30080"); err == nil {
				_, _, err = talk(conn)
				_ = conn.Close()
			}
		})
		return err
	}
	if err := dial(); err == nil {
		t.Fatal("the dead connection is in nobody's way: this test shows nothing")
	}
	n, err := Sweep{Gone: []netip.Addr{netip.MustParseAddr("10.42.0.5")}}.Apply(NewConntrack(int(top.node.handle)))
	if n != 1 || err != nil {
		t.Fatalf("forgot %d, %v, want 1", n, err)
	}
	if err := dial(); err != nil {
		t.Errorf("after the sweep: %v", err)
	}
}

// TestPortTakenAgainStays: between the look at a dead pod's entry and its
// deletion, the client takes its port again and is led to another pod. That
// connection stays. The kernel often gives it the ID of the entry before, so
// this is done many times.
func TestPortTakenAgainStays(t *testing.T) {
	top := newTopology(t)
	gone, other := netip.MustParseAddr("10.42.0.5"), netip.MustParseAddr("10.42.0.6")
	entry := func(server netip.Addr) *netlink.ConntrackFlow {
		flow := entryOf(Flow{Protocol: TCP, Client: netip.MustParseAddrPort("127.0.0.1:45454"),
			Destination: netip.MustParseAddrPort("127.0.0.1:30080"), Server: netip.AddrPortFrom(server, 8080)})
		flow.Reverse.DstIP = net.ParseIP("10.42.0.1").To4()
		return flow
	}
	create := func(server netip.Addr) {
		top.node.do(func() {
			top.node.must(netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(syscall.AF_INET), entry(server)))
		})
	}
	conntrack := NewConntrack(int(top.node.handle))
	all := func(Flow) bool { return true }
	for range 50 {
		create(gone)
		if _, err := conntrack.Forget(TCP, gone, func(Flow) bool {
			if n, err := conntrack.Forget(TCP, gone, all); n != 1 || err != nil {
				t.Fatalf("forgot %d, %v, want the entry", n, err)
			}
			create(other)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if n, err := conntrack.Forget(TCP, other, all); n != 1 || err != nil {
			t.Fatalf("%d, %v: the new connection was forgotten in place of the old", n, err)
		}
	}
}

// TestLiveConnectionStays: an endpoint that leaves keeps its connections.
func TestLiveConnectionStays(t *testing.T) {
	top := newTopology(t)
	top.pod("10.42.0.5").serve("one", ":8080").clientFirst = true
	top.pod("10.42.0.6").serve("two", ":8080")
	old, conn := top.converse(web+"10.42.0.5", "tcp4", "127.0.0.1:30080")
	next := Compile(parseState(t, web+"10.42.0.5 terminating serving unready\n10.42.0.6"))
	top.node.must(top.table.Set(next))
	sweep := sweepAfter(old.Parts, next.Parts, nil)
	if sweep.Unanswered = sweep.left; len(sweep.Unanswered) != 1 {
		t.Errorf("%v left, want one", sweep.Unanswered)
	}
	if n, err := sweep.Apply(NewConntrack(int(top.node.handle))); n != 0 || err != nil {
		t.Errorf("forgot %d, %v, want none", n, err)
	}
	expectAnswer(t, conn, "one")
	top.node.expect("new ones", "tcp4", "127.0.0.1:30080", "10.42.0.1", "two")
}

var errNotYet = errors.New("not yet")

// eventually calls f until it returns nil, for at most a minute.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	err := errNotYet
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(fmt.Errorf("in a minute: %w", err))
}
