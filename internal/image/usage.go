package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.podman.io/storage/pkg/ioutils"
)

// moments are when an image was seen on the node first, and in use last. Last is
// zero for one that nobody has used.
type moments struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last,omitzero"`
}

// usage remembers the moments of all images, on disk. It is safe for concurrent use.
type usage struct {
	path  string
	mu    sync.Mutex
	known map[string]moments // by ID
}

// openUsage reads what is remembered. Where that cannot be read, all images count
// as new: which of them went unused for long comes out again.
func openUsage(dir string, log *slog.Logger) *usage {
	u := &usage{path: filepath.Join(dir, "usage.json")}
	data, err := os.ReadFile(u.path)
	if err == nil {
		u.known, err = parseUsage(data)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Warn("When images were used last is not known: all count as new", "err", err)
	}
	if u.known == nil {
		u.known = map[string]moments{}
	}
	return u
}

func parseUsage(data []byte) (map[string]moments, error) {
	var known map[string]moments
	if err := json.Unmarshal(data, &known); err != nil {
		return nil, fmt.Errorf("usage.json: %w", err)
	}
	return known, nil
}

// arrived remembers that images have just come in. Their age counts from here,
// also when they were here before.
func (u *usage) arrived(ids ...string) error {
	return u.change(func() {
		for _, id := range ids {
			m := u.known[id]
			m.First = time.Now()
			u.known[id] = m
		}
	})
}

// observe remembers which of the images on the node are in use now, forgets all
// others, and returns the moments of each.
func (u *usage) observe(now time.Time, images []string, inUse map[string][]string) (map[string]moments, error) {
	var seen map[string]moments
	err := u.change(func() {
		seen = make(map[string]moments, len(images))
		for _, id := range images {
			m := u.known[id]
			if m.First.IsZero() {
				m.First = now
			}
			if _, is := inUse[id]; is {
				m.Last = now
			}
			seen[id] = m
		}
		u.known = maps.Clone(seen)
	})
	return seen, err
}

func (u *usage) change(do func()) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := maps.Clone(u.known)
	if do(); maps.Equal(before, u.known) {
		return nil
	}
	data, err := json.Marshal(u.known)
	if err == nil {
		err = ioutils.AtomicWriteFile(u.path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember when images are used: %w", err)
	}
	return nil
}
