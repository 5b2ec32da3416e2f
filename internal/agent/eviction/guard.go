package eviction

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Reading is one look at the file system of the data directory.
type Reading struct {
	At            time.Time
	Space, Inodes Level // Inodes is zero where the file system does not count them
}

func (r Reading) level(s Signal) Level {
	if s == NodeFSInodesFree {
		return r.Inodes
	}
	return r.Space
}

// Sample is what each pod held of the disk at a Reading.
type Sample struct {
	Reading
	Pods []Pod
}

// Watch is how the disk is to be watched.
type Watch struct {
	Critical  Signal        // what there is less of than the reserve; "" is nothing
	Exhausted bool          // hardly anything of it is left
	Measure   bool          // what each pod holds should be known soon: the reserve is near, at the present rate
	Next      time.Duration // to the next look
}

const (
	// A disk is not filled faster than this, in bytes and in inodes each second.
	topSpeed, topInodeSpeed = 4 << 30, 200_000

	// alertTime is how long before the reserve would be reached pods are measured.
	alertTime = 10 * time.Second

	soonest, latest = 50 * time.Millisecond, time.Second

	// kept is how old a sample may be that another is compared with.
	kept = 10 * time.Second
)

// The reserve: a part of the disk, but no more than is enough for what a node
// writes while it gets rid of a pod.
const (
	reservePart                = 0.05
	mostReserve, mostReserveIn = 1 << 30, 20_000
)

// reserve is how much of a level no pod should take, however fast it writes.
func reserve(s Signal, capacity int64) int64 {
	most := int64(mostReserve)
	if s == NodeFSInodesFree {
		most = mostReserveIn
	}
	return min(int64(reservePart*float64(capacity)), most)
}

// Look decides from two readings, one after the other, how the disk is to be
// watched. The nearer to the reserve and the faster the fall, the closer.
func Look(before, now Reading) Watch {
	w := Watch{Next: latest}
	for _, of := range []struct {
		signal Signal
		top    float64
	}{{NodeFSAvailable, topSpeed}, {NodeFSInodesFree, topInodeSpeed}} {
		level := now.level(of.signal)
		if level.Capacity == 0 {
			continue
		}
		least := reserve(of.signal, level.Capacity)
		margin := float64(level.Available - least)
		if margin < 0 && w.Critical == "" {
			w.Critical = of.signal
		}
		w.Exhausted = w.Exhausted || level.Available < least/4
		w.Next = min(w.Next, seconds(margin/of.top/2))
		if fall := float64(before.level(of.signal).Available-level.Available) / now.At.Sub(before.At).Seconds(); fall > 0 && seconds(margin/fall) < alertTime {
			w.Measure = true
			w.Next = min(w.Next, seconds(margin/fall/4))
		}
	}
	w.Measure = w.Measure || w.Critical != ""
	w.Next = max(w.Next, soonest)
	return w
}

// seconds is a duration, of an hour at most.
func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0), 3600) * float64(time.Second))
}

// Base returns which of two samples the next is to be compared with.
func Base(base, last Sample, now time.Time) Sample {
	if base.At.IsZero() || now.Sub(base.At) > kept {
		return last
	}
	return base
}

// Contain returns the pod to kill at once because it is who fills the disk; nil
// if none of those that may be evicted is: it has taken most since the sample
// before, and a good part of what the disk has lost.
func Contain(before, now Sample, signal Signal) *Eviction {
	name := signal.reclaims()
	holds := func(p *Pod) int64 {
		if name == inodes {
			return p.uses(name) + p.Claims.Inodes
		}
		return p.uses(name) + p.Claims.Bytes
	}
	had := map[types.UID]int64{} // those that came since had nothing
	for i := range before.Pods {
		had[before.Pods[i].Spec.UID] = holds(&before.Pods[i])
	}
	fall := before.level(signal).Available - now.level(signal).Available
	var most *Pod
	var taken int64
	for i := range now.Pods {
		p := &now.Pods[i]
		if grown := holds(p) - had[p.Spec.UID]; grown > taken && !Critical(p.Spec) {
			most, taken = p, grown
		}
	}
	level := now.level(signal)
	least := reserve(signal, level.Capacity)
	if most == nil || before.At.IsZero() || taken < fall/4 || taken < least/10 {
		return nil
	}
	return &Eviction{Pod: most.Spec, Message: describe(most, name, least, level.Available)}
}
