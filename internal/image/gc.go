package image

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Thresholds say when unused images go, as the kubelet's settings of the same names do.
type Thresholds struct {
	High   int           // percent of the disk in use from which on images go; 100 is never
	Low    int           // percent down to which they go
	MinAge time.Duration // how long an image stays at least
}

// DefaultThresholds are the kubelet's.
var DefaultThresholds = Thresholds{High: 85, Low: 80, MinAge: 2 * time.Minute}

// Check refuses what makes no sense.
func (t Thresholds) Check() error {
	switch {
	case t.High < 0 || t.High > 100:
		return fmt.Errorf("--image-gc-high-threshold %d: give a percentage, 0 to 100", t.High)
	case t.Low < 0 || t.Low > t.High:
		return fmt.Errorf("--image-gc-low-threshold %d: give a percentage, 0 to that of --image-gc-high-threshold (%d)", t.Low, t.High)
	case t.MinAge < 0:
		return fmt.Errorf("--minimum-image-ttl-duration %s: give a time that is not negative, such as 2m", t.MinAge)
	}
	return nil
}

// excess is how many bytes have to go from a disk: none before the high
// threshold is reached, then as many as there are above the low one.
func (t Thresholds) excess(capacity, available int64) int64 {
	if t.High == 100 || capacity <= 0 || 100-int64(float64(available)*100/float64(capacity)) < int64(t.High) {
		return 0
	}
	return max(int64(float64(capacity)*float64(100-t.Low)/100)-available, 0)
}

// candidate is an image that might go.
type candidate struct {
	ID     string
	Named  bool
	Layers []string // IDs
	Used   bool
	moments
}

// removal is an image to delete, and what that frees.
type removal struct {
	ID    string
	Bytes int64
	Why   string
}

// wish is what a collection is for.
type wish struct {
	bytes    int64 // as many have to go; math.MaxInt64 is all that can
	minAge   time.Duration
	nameless bool // only images without a name
}

// plan decides which images go: of those that nobody uses and that are old enough
// the ones unused for longest first, until what is wished for is free. sizes are
// the bytes of layers; a layer is free when the last image that has it is gone.
func plan(now time.Time, images []candidate, sizes map[string]int64, w wish) []removal {
	holders := map[string]int{}
	var free []candidate
	for _, c := range images {
		for _, layer := range c.Layers {
			holders[layer]++
		}
		if !c.Used && now.Sub(c.First) >= w.minAge && !(w.nameless && c.Named) {
			free = append(free, c)
		}
	}
	slices.SortFunc(free, func(a, b candidate) int {
		return cmp.Or(a.Last.Compare(b.Last), a.First.Compare(b.First), cmp.Compare(a.ID, b.ID))
	})
	var gone []removal
	for freed := int64(0); len(free) > 0 && freed < w.bytes; free = free[1:] {
		next := removal{ID: free[0].ID, Why: unusedSince(free[0].moments)}
		for _, layer := range free[0].Layers {
			if holders[layer]--; holders[layer] == 0 {
				next.Bytes += sizes[layer]
			}
		}
		freed += next.Bytes
		gone = append(gone, next)
	}
	return gone
}

func unusedSince(m moments) string {
	if m.Last.IsZero() {
		return "never used since it came in at " + m.First.Format(time.RFC3339)
	}
	return "unused since " + m.Last.Format(time.RFC3339)
}
