package proxy

import (
	"fmt"
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
