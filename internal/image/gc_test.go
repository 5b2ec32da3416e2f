package image

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"pgregory.net/rapid"

	"windlass.dev/windlass/internal/agent"
)

var gcNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func ago(minutes int) time.Time { return gcNow.Add(-time.Duration(minutes) * time.Minute) }

func TestPlan(t *testing.T) {
	sizes := map[string]int64{"base": 100, "a": 10, "b": 20, "c": 30}
	old := moments{First: ago(60)}
	images := []candidate{
		{ID: "a", Named: true, Layers: []string{"a", "base"}, moments: moments{First: ago(60), Last: ago(5)}},
		{ID: "b", Layers: []string{"b", "base"}, moments: moments{First: ago(60), Last: ago(30)}},
		{ID: "c", Named: true, Layers: []string{"c"}, moments: old},
	}
	changed := func(change func([]candidate)) []candidate {
		list := slices.Clone(images)
		change(list)
		return list
	}
	for _, test := range []struct {
		what   string
		images []candidate
		wish   wish
		want   string
	}{
		{"nothing is wanted", images, wish{}, ""},
		{"one never used goes first", images, wish{bytes: 1}, "c=30"},
		{"then the one used longest ago, whose base stays", images, wish{bytes: 31}, "c=30 b=20"},
		{"the last with the base frees it", images, wish{bytes: math.MaxInt64}, "c=30 b=20 a=110"},
		{"used", changed(func(l []candidate) { l[2].Used, l[1].Used = true, true }), wish{bytes: math.MaxInt64}, "a=10"},
		{"young", changed(func(l []candidate) { l[2].First = ago(1) }), wish{bytes: 10, minAge: 2 * time.Minute}, "b=20"},
		{"as old as it has to be", changed(func(l []candidate) { l[2].First = ago(2) }), wish{bytes: 10, minAge: 2 * time.Minute}, "c=30"},
		{"without a name", images, wish{bytes: math.MaxInt64, nameless: true}, "b=20"},
		{"no images", nil, wish{bytes: math.MaxInt64}, ""},
	} {
		var got []string
		for _, r := range plan(gcNow, test.images, sizes, test.wish) {
			got = append(got, fmt.Sprintf("%s=%d", r.ID, r.Bytes))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v, want %s", test.what, got, test.want)
		}
	}
}

// Whatever is there: nothing in use or young goes, nothing twice, no more than is
// needed, those unused for longest first, and what is said to be free is.
func TestPlanKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layers := []string{"l0", "l1", "l2", "l3", "l4"}
		sizes := map[string]int64{}
		for _, l := range layers {
			sizes[l] = int64(rapid.IntRange(0, 50).Draw(t, l))
		}
		var images []candidate
		byID := map[string]candidate{}
		for i := range rapid.IntRange(0, 8).Draw(t, "images") {
			c := candidate{
				ID: fmt.Sprint(i), Named: rapid.Bool().Draw(t, "named"), Used: rapid.Bool().Draw(t, "used"),
				Layers:  rapid.SliceOfNDistinct(rapid.SampledFrom(layers), 0, 5, rapid.ID).Draw(t, "layers"),
				moments: moments{First: ago(rapid.IntRange(0, 9).Draw(t, "first"))},
			}
			if rapid.Bool().Draw(t, "was used") {
				c.Last = ago(rapid.IntRange(0, 9).Draw(t, "last"))
			}
			images = append(images, c)
			byID[c.ID] = c
		}
		w := wish{bytes: int64(rapid.IntRange(0, 300).Draw(t, "bytes")), minAge: time.Duration(rapid.IntRange(0, 9).Draw(t, "age")) * time.Minute}
		gone := plan(gcNow, images, sizes, w)
		held := func(without []removal) (bytes int64) {
			for _, l := range layers {
				if slices.ContainsFunc(images, func(c candidate) bool {
					return slices.Contains(c.Layers, l) && !slices.ContainsFunc(without, func(r removal) bool { return r.ID == c.ID })
				}) {
					bytes += sizes[l]
				}
			}
			return bytes
		}
		var freed int64
		for i, r := range gone {
			c := byID[r.ID]
			if c.Used || gcNow.Sub(c.First) < w.minAge || slices.ContainsFunc(gone[:i], func(o removal) bool { return o.ID == r.ID }) {
				t.Fatalf("%+v goes", c)
			}
			if freed >= w.bytes {
				t.Fatalf("%+v goes though enough is free", c)
			}
			if i > 0 && c.Last.Before(byID[gone[i-1].ID].Last) {
				t.Fatalf("%+v goes after one used later", c)
			}
			if freed += r.Bytes; held(nil)-held(gone[:i+1]) != freed {
				t.Fatalf("%d bytes are said to be free, it is %d", freed, held(nil)-held(gone[:i+1]))
			}
		}
		could := slices.ContainsFunc(images, func(c candidate) bool {
			return !c.Used && gcNow.Sub(c.First) >= w.minAge && !slices.ContainsFunc(gone, func(r removal) bool { return r.ID == c.ID })
		})
		if freed < w.bytes && could {
			t.Fatalf("%d of %d bytes are free, and more could go", freed, w.bytes)
		}
	})
}

func TestThresholds(t *testing.T) {
	for _, test := range []struct{ high, low, available, want int }{
		{85, 80, 100, 0}, {85, 80, 16, 0}, {85, 80, 15, 5}, {85, 80, 0, 20}, {100, 80, 0, 0}, {0, 0, 50, 50}, {80, 80, 20, 0}, {80, 80, 19, 1},
	} {
		if got := (Thresholds{High: test.high, Low: test.low}).excess(1000, int64(test.available)*10); got != int64(test.want)*10 {
			t.Errorf("%+v: %d", test, got)
		}
	}
	for _, bad := range []Thresholds{{High: 101}, {High: -1}, {High: 80, Low: 81}, {High: 80, Low: -1}, {High: 80, Low: 80, MinAge: -1}} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), "--") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := DefaultThresholds.Check(); err != nil {
		t.Error(err)
	}
}

func TestFreeAndCollect(t *testing.T) {
	s := newStore(t)
	base := layer(t, "base", "x")
	load(t, s, saved(t, map[string]v1.Image{
		"used:v1": pack(t, "1", base, layer(t, "app", "one")), "named:v1": pack(t, "2", base, layer(t, "app", "two")),
		"soon:v1": pack(t, "3", base, layer(t, "app", "three")), "idle:v1": pack(t, "4", base, layer(t, "app", noise(9000))),
	}))
	used := find(t, s, "used:v1").ID
	s.inUse = func(context.Context) (map[string][]string, error) {
		return map[string][]string{used: {"pod default/a"}, "soon:v1": {"pod default/b"}, "never:v1": {"pod default/c"}, "No:Name:": {"pod default/d"}}, nil
	}
	names := func() string {
		list, err := s.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, img := range list {
			names = append(names, strings.TrimPrefix(img.Names[0], "docker.io/library/"))
		}
		return strings.Join(names, " ")
	}
	if freed, err := s.Free(t.Context(), math.MaxInt64); err != nil || freed != 0 {
		t.Errorf("images that have just come in: %d bytes, %v", freed, err)
	}
	s.thresholds.MinAge = 0
	s.thresholds.High = 100
	if err := s.Collect(t.Context()); err != nil || names() != "idle:v1 named:v1 soon:v1 used:v1" {
		t.Errorf("%s, %v", names(), err)
	}
	if freed, err := s.Free(t.Context(), 5000); err != nil || freed < 5000 || !strings.HasSuffix(names(), "soon:v1 used:v1") {
		t.Errorf("%d bytes, %s are left, %v", freed, names(), err)
	}
	s.thresholds.High, s.thresholds.Low = 0, 0
	err := s.Collect(t.Context())
	if !errors.Is(err, agent.ErrNotEnoughFreed) || !strings.Contains(err.Error(), "Attempted to free") || names() != "soon:v1 used:v1" {
		t.Errorf("%v, %s", err, names())
	}
	for _, ref := range []string{"soon:v1", used, "used:v1"} {
		if err := s.Remove(t.Context(), ref, false); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "pod default/") {
			t.Errorf("remove %s: %v", ref, err)
		}
	}
	if err := s.Remove(t.Context(), "used:v1", true); err != nil {
		t.Error(err)
	}
	if pruned, err := s.Prune(t.Context(), true); err != nil || len(pruned.Images) != 0 || find(t, s, used).ID != used {
		t.Errorf("%+v, %v", pruned, err)
	}
	s.inUse = nil
	if pruned, err := s.Prune(t.Context(), false); err != nil || !slices.Equal(pruned.Images, []string{used}) || pruned.Bytes == 0 || names() != "soon:v1" {
		t.Errorf("%+v, %s, %v", pruned, names(), err)
	}
	if pruned, err := s.Prune(t.Context(), true); err != nil || len(pruned.Images) != 1 || names() != "" {
		t.Errorf("%+v, %s, %v", pruned, names(), err)
	}
	if layers, err := s.storage.Layers(); err != nil || len(layers) != 0 {
		t.Errorf("%d layers are left, %v", len(layers), err)
	}
}

// When images were used last outlives a restart; where it is damaged all count as new.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	u := openUsage(dir, nil)
	if _, err := u.observe(gcNow, []string{"a", "b"}, map[string][]string{"a": {"x"}}); err != nil {
		t.Fatal(err)
	}
	u = openUsage(dir, nil)
	seen, err := u.observe(gcNow.Add(time.Minute), []string{"a", "c"}, nil)
	if err != nil || !seen["a"].Last.Equal(gcNow) || !seen["a"].First.Equal(gcNow) || !seen["c"].First.Equal(gcNow.Add(time.Minute)) || !seen["c"].Last.IsZero() || len(seen) != 2 {
		t.Errorf("%+v, %v", seen, err)
	}
	if err := os.WriteFile(u.path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	if u = openUsage(dir, s.log); len(u.known) != 0 {
		t.Errorf("%+v", u.known)
	}
}

func FuzzParseUsage(f *testing.F) {
	f.Add([]byte(`{"sha256:a": {"first": "2026-01-01T00:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if known, err := parseUsage(data); err != nil && known != nil {
			t.Errorf("%v with %v", err, known)
		}
	})
}
