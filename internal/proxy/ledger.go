package proxy

import (
	"maps"
	"net/netip"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
)

// Counters is the edge to what the rules count: Netlink is the real one and
// Memory the fake. It is read beside the changes of rules, so the two must not
// wait for each other.
type Counters interface {
	// Counts returns what was counted on each path since its first packet. It
	// begins at zero again when the table was replaced or the path forgotten.
	Counts() (map[Path]v1alpha1.TrafficCount, error)
}

// Path is the way of TCP connections through a Service.
type Path struct {
	Way      netip.AddrPort // where the client sent them: an address of the Service, or of the node and a node port
	Endpoint netip.AddrPort // where the rules sent them; equal to Way when there was no endpoint
}

// forgetAfter is how long a path to a pod that is no more stays without traffic.
const forgetAfter = 30 * time.Second

// key returns the key that the path has in the counting sets.
func (p Path) key() Key {
	return Key{Address: p.Way.Addr(), Second: p.Endpoint.Addr(), Port: p.Way.Port(), SecondPort: p.Endpoint.Port()}
}

// path is the inverse of Path.key.
func (k Key) path() Path {
	return Path{Way: netip.AddrPortFrom(k.Address, k.Port), Endpoint: netip.AddrPortFrom(k.Second, k.SecondPort)}
}

// addCount adds what an element of a counting set has to the counts.
func addCount(counts map[Path]v1alpha1.TrafficCount, set string, key Key, n uint64) {
	path := key.path()
	count := counts[path]
	switch set {
	case setConnections:
		count.Connections += int64(n)
	case setRefused:
		count.Refused += int64(n)
	case setReset:
		count.Reset += int64(n)
	default:
		return
	}
	counts[path] = count
}

// ledger sums up by Service what is read of the counters from time to time. A
// sum never goes down, whatever happens to the counters. It is pure.
type ledger struct {
	paths map[Path]entryOfPath
	sums  map[string]v1alpha1.TrafficCount // by namespace/name
}

// entryOfPath is what was read of a path last, and when it last differed.
type entryOfPath struct {
	count   v1alpha1.TrafficCount
	changed time.Time
}

func newLedger() *ledger {
	return &ledger{paths: map[Path]entryOfPath{}, sums: map[string]v1alpha1.TrafficCount{}}
}

// read adds what came since the counters were read before. Owner names the
// Service of an address and port now; what has none is not summed up.
func (l *ledger) read(counts map[Path]v1alpha1.TrafficCount, owner func(netip.AddrPort) string, now time.Time) {
	maps.DeleteFunc(l.paths, func(p Path, _ entryOfPath) bool { _, ok := counts[p]; return !ok })
	for path, count := range counts {
		before, ok := l.paths[path]
		if ok && before.count == count {
			continue
		}
		l.paths[path] = entryOfPath{count, now}
		if name := owner(path.Way); name != "" {
			l.sums[name] = plus(l.sums[name], since(before.count, count))
		}
	}
}

// stale returns the elements of paths that are in use no more and had no
// traffic for a while: all of it is in the sums.
func (l *ledger) stale(inUse func(Path) bool, now time.Time) []Element {
	var found []Element
	for path, entry := range l.paths {
		if now.Sub(entry.changed) < forgetAfter || inUse(path) {
			continue
		}
		for set, n := range map[string]int64{setConnections: entry.count.Connections, setRefused: entry.count.Refused, setReset: entry.count.Reset} {
			if n > 0 {
				found = append(found, Element{Set: set, Key: path.key()})
			}
		}
	}
	return found
}

// forgotten takes in that the counters of stale paths begin at zero again.
func (l *ledger) forgotten(stale []Element) {
	for _, element := range stale {
		delete(l.paths, element.Key.path())
	}
}

// drop forgets the sums of Services that keep says no to.
func (l *ledger) drop(keep func(service string) bool) {
	maps.DeleteFunc(l.sums, func(name string, _ v1alpha1.TrafficCount) bool { return !keep(name) })
}

// since returns what was counted between two readings. A counter that went
// down began again at zero.
func since(before, now v1alpha1.TrafficCount) v1alpha1.TrafficCount {
	difference := func(before, now int64) int64 {
		if now < before {
			return now
		}
		return now - before
	}
	return v1alpha1.TrafficCount{
		Connections: difference(before.Connections, now.Connections),
		Refused:     difference(before.Refused, now.Refused),
		Reset:       difference(before.Reset, now.Reset),
	}
}

func plus(x, y v1alpha1.TrafficCount) v1alpha1.TrafficCount {
	return v1alpha1.TrafficCount{Connections: x.Connections + y.Connections, Refused: x.Refused + y.Refused, Reset: x.Reset + y.Reset}
}
