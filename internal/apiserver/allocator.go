package apiserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
)

// Why a value is not given, in the words of Kubernetes.
var (
	errAddressTaken = errors.New("provided IP is already allocated")
	errPortTaken    = errors.New("provided port is already allocated")
	errFull         = errors.New("range is full")
)

// pool hands out numbers from a range, each to one holder. The first part of the
// range, the band, is handed out by chance only when the rest is used up, so that
// those who ask for a number of their own have room there.
type pool struct {
	mu   sync.Mutex
	size uint32
	band uint32
	used map[uint32]int // how many hold a number: more than one only if it was stored so
}

func newPool(size, band uint32) *pool {
	return &pool{size: size, band: min(band, size), used: map[uint32]int{}}
}

// take takes the number n, or says that it is taken.
func (p *pool) take(n uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[n] > 0 {
		return false
	}
	p.used[n]++
	return true
}

// hold notes one more holder of n, and says whether it is the first.
func (p *pool) hold(n uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[n]++
	return p.used[n] == 1
}

// next takes a free number.
func (p *pool) next() (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range []struct{ from, to uint32 }{{p.band, p.size}, {0, p.band}} {
		width := part.to - part.from
		if width == 0 {
			continue
		}
		start := rand.Uint32N(width)
		for i := range width {
			n := part.from + (start+i)%width
			if p.used[n] == 0 {
				p.used[n]++
				return n, nil
			}
		}
	}
	return 0, errFull
}

// put gives a number back. It is free when nobody else holds it.
func (p *pool) put(n uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[n]--; p.used[n] <= 0 {
		delete(p.used, n)
	}
}

// addresses hands out the addresses of an IPv4 prefix but its first, which is the
// network's, and its last, where packets to all go.
type addresses struct {
	prefix netip.Prefix
	*pool
}

// newAddresses takes an IPv4 prefix of 4 to 2^20 addresses.
func newAddresses(prefix netip.Prefix) (addresses, error) {
	if !prefix.Addr().Is4() || prefix.Bits() < 12 || prefix.Bits() > 30 {
		return addresses{}, fmt.Errorf("service range %s: an IPv4 prefix between /12 and /30 is needed", prefix)
	}
	size := uint32(1)<<(32-prefix.Bits()) - 2
	return addresses{prefix.Masked(), newPool(size, min(max(16, size/16), 256))}, nil
}

func (a addresses) at(n uint32) netip.Addr {
	base := a.prefix.Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+1+n)
	return netip.AddrFrom4(out)
}

// number returns the place of an address, or why it has none.
func (a addresses) number(text string) (uint32, error) {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return 0, fmt.Errorf("the provided IP (%s) is not an address", text)
	}
	outside := fmt.Errorf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", text, a.prefix)
	if !a.prefix.Contains(address) {
		return 0, outside
	}
	base, value := a.prefix.Addr().As4(), address.As4()
	offset := binary.BigEndian.Uint32(value[:]) - binary.BigEndian.Uint32(base[:])
	if offset == 0 || offset > a.size {
		return 0, outside
	}
	return offset - 1, nil
}

// ports hands out node ports.
type ports struct {
	valid PortRange
	*pool
}

func newPorts(valid PortRange) (ports, error) {
	if valid.First == 0 || valid.Last < valid.First {
		return ports{}, fmt.Errorf("node port range %d-%d is empty", valid.First, valid.Last)
	}
	size := uint32(valid.Last) - uint32(valid.First) + 1
	return ports{valid, newPool(size, min(max(16, size/32), 128))}, nil
}

func (p ports) at(n uint32) int32 { return int32(uint32(p.valid.First) + n) }

// number returns the place of a port, or why it has none.
func (p ports) number(port int32) (uint32, error) {
	if port < int32(p.valid.First) || port > int32(p.valid.Last) {
		return 0, fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", p.valid.First, p.valid.Last)
	}
	return uint32(port) - uint32(p.valid.First), nil
}
