package eviction

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const gi = 1 << 30

func TestLook(t *testing.T) {
	at := func(seconds float64, space, inodes int64) Reading {
		return Reading{At: epoch.Add(time.Duration(seconds * float64(time.Second))), Space: Level{space, 100 * gi}, Inodes: Level{inodes, 10_000_000}}
	}
	for _, test := range []struct {
		name        string
		before, now Reading
		want        Watch
	}{
		{"the first look", Reading{}, at(1, 50*gi, 5_000_000), Watch{Next: time.Second}},
		{"nothing happens", at(0, 50*gi, 5_000_000), at(1, 50*gi, 5_000_000), Watch{Next: time.Second}},
		{"the other way", at(0, 40*gi, 5_000_000), at(1, 50*gi, 5_000_000), Watch{Next: time.Second}},
		{"slowly", at(0, 50*gi, 5_000_000), at(1, 50*gi-mi, 5_000_000), Watch{Next: time.Second}},
		{"fast", at(0, 10*gi, 5_000_000), at(1, 9*gi, 5_000_000), Watch{Measure: true, Next: time.Second}},
		{"fast and near", at(0, 3*gi, 5_000_000), at(0.5, 2*gi, 5_000_000), Watch{Measure: true, Next: 125 * time.Millisecond}},
		{"near at rest", at(0, 2*gi, 5_000_000), at(1, 2*gi, 5_000_000), Watch{Next: 125 * time.Millisecond}},
		{"into the reserve", at(0, 2*gi, 5_000_000), at(1, gi-1, 5_000_000), Watch{Critical: NodeFSAvailable, Measure: true, Next: soonest}},
		{"out of space", at(0, 2*gi, 5_000_000), at(1, 0, 5_000_000), Watch{Critical: NodeFSAvailable, Exhausted: true, Measure: true, Next: soonest}},
		{"inodes, fast", at(0, 50*gi, 600_000), at(1, 50*gi, 420_000), Watch{Measure: true, Next: 555555555}},
		{"into the reserve of inodes", at(0, 50*gi, 100_000), at(1, 50*gi, 19_999), Watch{Critical: NodeFSInodesFree, Measure: true, Next: soonest}},
		{"no inodes are counted", Reading{At: epoch, Space: Level{50 * gi, 100 * gi}}, Reading{At: epoch.Add(time.Second), Space: Level{50 * gi, 100 * gi}}, Watch{Next: time.Second}},
		{"nothing is known", Reading{}, Reading{At: epoch}, Watch{Next: time.Second}},
	} {
		if got := Look(test.before, test.now); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

// The reserve of a small disk is a part of it.
func TestReserve(t *testing.T) {
	if a, b, c := reserve(NodeFSAvailable, gi), reserve(NodeFSAvailable, 1000*gi), reserve(NodeFSInodesFree, 100_000); a != gi/20 || b != gi || c != 5000 {
		t.Error(a, b, c)
	}
}

func TestContain(t *testing.T) {
	sample := func(space int64, pods ...Pod) Sample {
		return Sample{Reading{At: epoch, Space: Level{space, 10 * gi}, Inodes: Level{space / 1000, 10 * gi / 1000}}, pods}
	}
	holds := func(name string, written int64) Pod {
		p := using(testPod(name, 0, "", ""), 0, written, 1)
		p.Spec.UID = types.UID(name)
		p.Inodes = written / 1000
		return p
	}
	critical := holds("critical", 3*gi)
	important := int32(systemCritical)
	critical.Spec.Spec.Priority = &important
	claims := func(p Pod, bytes int64) Pod {
		p.Claims = Disk{bytes, bytes / 1000}
		return p
	}
	for _, test := range []struct {
		name        string
		before, now Sample
		want        string
	}{
		{"who fills its claim", sample(2*gi, claims(holds("large", 0), 5*gi), holds("fast", 0)), sample(gi/4, claims(holds("large", 0), 6*gi), holds("fast", mi)), "large"},
		{"who grows, not who is large", sample(2*gi, holds("large", 5*gi), holds("fast", 0)), sample(gi/4, holds("large", 5*gi+mi), holds("fast", gi)), "fast"},
		{"who has come since", sample(2*gi, holds("large", 5*gi)), sample(gi/4, holds("large", 5*gi), holds("new", gi)), "new"},
		{"nobody grows: it is somebody else", sample(2*gi, holds("large", 5*gi)), sample(gi/4, holds("large", 5*gi+100*mi)), ""},
		{"not much happens", sample(gi/4, holds("large", 5*gi)), sample(gi/4-mi, holds("large", 5*gi+mi)), ""},
		{"one that gives back", sample(gi/4, holds("large", 5*gi), holds("fast", 0)), sample(gi/3, holds("large", 4*gi), holds("fast", gi)), "fast"},
		{"critical pods are spared", sample(2 * gi), sample(gi/4, critical, holds("fast", gi)), "fast"},
		{"nothing to compare with", Sample{}, sample(gi/4, holds("large", 5*gi)), ""},
	} {
		for _, signal := range []Signal{NodeFSAvailable, NodeFSInodesFree} {
			got := ""
			if e := Contain(test.before, test.now, signal); e != nil {
				got = e.Pod.Name
			}
			if got != test.want {
				t.Errorf("%s, %s: %q, want %q", test.name, signal, got, test.want)
			}
		}
	}
	e := Contain(sample(2*gi), sample(gi/4, holds("fast", gi)), NodeFSAvailable)
	const want = "The node was low on resource: ephemeral-storage. Threshold quantity: 512Mi, available: 256Mi. Container c was using 1Gi, request is 0, has larger consumption of ephemeral-storage. "
	if e == nil || e.Message != want {
		t.Errorf("%+v, want %s", e, want)
	}
}

func TestBase(t *testing.T) {
	at := func(seconds int) Sample {
		return Sample{Reading: Reading{At: epoch.Add(time.Duration(seconds) * time.Second)}}
	}
	if got := Base(Sample{}, at(1), at(2).At); !got.At.Equal(at(1).At) {
		t.Error("the first")
	}
	if got := Base(at(1), at(9), at(10).At); !got.At.Equal(at(1).At) {
		t.Error("one that is young enough stays")
	}
	if got := Base(at(1), at(9), at(12).At); !got.At.Equal(at(9).At) {
		t.Error("one that is too old goes")
	}
}
