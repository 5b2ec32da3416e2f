package proxy

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// BenchmarkChange measures one endpoint that leaves or comes back, from the
// slice to the rules in the kernel, beside more and more Services of ten
// endpoints each.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			state := manyServices(n)
			model := NewModel(testNode)
			for _, s := range state.Services {
				model.SetService(s)
			}
			for _, s := range state.EndpointSlices {
				model.SetSlice(s)
			}
			table := NewTable(realKernel(b, newNamespace(b)))
			if err := table.Set(model.Compile()); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for i := range b.N {
				k := i % n
				model.SetSlice(manyEndpoints(fmt.Sprintf("s%04d", k), k, 9+i/n%2))
				if err := table.Set(model.Compile()); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			if table.Stats().Replaced != 1 {
				b.Errorf("the table was written %d times", table.Stats().Replaced)
			}
		})
	}
}

// BenchmarkStart measures the first Set: from objects to a kernel without a
// table, and to one that has it all from the process before.
func BenchmarkStart(b *testing.B) {
	state := manyServices(1000)
	b.Run("nothing there", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			kernel := realKernel(b, newNamespace(b))
			b.StartTimer()
			if err := NewTable(kernel).Set(Compile(state)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("all there", func(b *testing.B) {
		kernel := realKernel(b, newNamespace(b))
		if err := NewTable(kernel).Set(Compile(state)); err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		for range b.N {
			if err := NewTable(kernel).Set(Compile(state)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTraffic measures what the rules cost packets: a round trip on an
// open connection, and a connection with one request, from a pod to another
// through a Service.
func BenchmarkTraffic(b *testing.B) {
	top := newTopology(b)
	echo := top.pod("10.42.0.5").serve("one", ":8080")
	echo.clientFirst = true
	client := top.pod("10.42.0.9")
	top.set(web + "10.42.0.5")
	b.Run("round trip", func(b *testing.B) {
		client.do(func() {
			conn, err := net.Dial("tcp4", "10.43.0.10:80")
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			in := bufio.NewReader(conn)
			for b.Loop() {
				if _, err := fmt.Fprintln(conn, "who"); err != nil {
					b.Error(err)
					return
				}
				if _, err := in.ReadString('\n'); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("connection", func(b *testing.B) {
		client.do(func() {
			for b.Loop() {
				if _, _, err := ask("tcp4", "10.43.0.10:80"); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkCount measures one reading of the counters of many paths.
func BenchmarkCount(b *testing.B) {
	kernel := realKernel(b, newNamespace(b))
	if err := NewTable(kernel).Set(Compile(State{Node: testNode})); err != nil {
		b.Fatal(err)
	}
	generation, err := kernel.Generation()
	if err != nil {
		b.Fatal(err)
	}
	var elements []Element
	for i := range 10000 {
		elements = append(elements, Element{Set: setConnections, Key: Key{Address: netip.AddrFrom4([4]byte{10, 43, byte(i / 2500), byte(i / 10)}),
			Second: netip.AddrFrom4([4]byte{10, 42, byte(i / 250), byte(i % 250)}), Port: 80, SecondPort: 8080}})
	}
	if err := kernel.Commit(elementOps(AddElements, elements), generation); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if counts, err := kernel.Counts(); err != nil || len(counts) != len(elements) {
			b.Fatal(len(counts), err)
		}
	}
}
