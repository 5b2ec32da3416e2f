package apiserver

import (
	"errors"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is taken and put back in whatever order: no number has two holders, and
// none is refused while one is free.
func TestPoolHasOneHolderPerNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint32Range(1, 40).Draw(t, "size")
		p := newPool(size, rapid.Uint32Range(0, 50).Draw(t, "band"))
		held := map[uint32]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"next": func(t *rapid.T) {
				n, err := p.next()
				if full := len(held) == int(size); errors.Is(err, errFull) != full {
					t.Fatalf("%d of %d held: %v", len(held), size, err)
				} else if full {
					return
				}
				if held[n] || n >= size {
					t.Fatalf("got %d of %v", n, held)
				}
				held[n] = true
			},
			"take": func(t *rapid.T) {
				n := rapid.Uint32Range(0, size-1).Draw(t, "n")
				if p.take(n) == held[n] {
					t.Fatalf("take(%d) with %v", n, held)
				}
				held[n] = true
			},
			"put": func(t *rapid.T) {
				n := rapid.Uint32Range(0, size-1).Draw(t, "n")
				p.put(n)
				delete(held, n)
			},
		})
	})
}

func TestPoolLeavesItsBandForThoseWhoAsk(t *testing.T) {
	p := newPool(100, 20)
	for range 80 {
		if n, err := p.next(); err != nil || n < 20 {
			t.Fatalf("got %d, %v while the rest has room", n, err)
		}
	}
	if n, err := p.next(); err != nil || n >= 20 {
		t.Fatalf("got %d, %v when only the band has room", n, err)
	}
}

func TestAddressesAndTheirNumbers(t *testing.T) {
	a, err := newAddresses(netip.MustParsePrefix("10.43.7.9/28"))
	if err != nil {
		t.Fatal(err)
	}
	if a.size != 14 {
		t.Errorf("%d addresses in a /28", a.size)
	}
	for n := range a.size {
		if back, err := a.number(a.at(n).String()); err != nil || back != n {
			t.Errorf("%d is %s is %d, %v", n, a.at(n), back, err)
		}
	}
	for _, bad := range []string{"10.43.7.0", "10.43.7.15", "10.43.7.16", "10.43.6.255", "::1", "::ffff:10.43.7.3", "x", ""} {
		if n, err := a.number(bad); err == nil {
			t.Errorf("%q is number %d", bad, n)
		}
	}
	for _, bad := range []string{"10.0.0.0/8", "10.0.0.0/31", "fd00::/112"} {
		if _, err := newAddresses(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s was taken as a service range", bad)
		}
	}
}

func TestPortsAndTheirNumbers(t *testing.T) {
	p, err := newPorts(PortRange{30000, 30009})
	if err != nil {
		t.Fatal(err)
	}
	for n := range p.size {
		if back, err := p.number(p.at(n)); err != nil || back != n {
			t.Errorf("%d is %d is %d, %v", n, p.at(n), back, err)
		}
	}
	for _, bad := range []int32{0, -1, 29999, 30010, 95536} {
		if n, err := p.number(bad); err == nil {
			t.Errorf("%d is number %d", bad, n)
		}
	}
	if _, err := newPorts(PortRange{5, 4}); err == nil {
		t.Error("an empty range was taken")
	}
}
