package image

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.podman.io/storage"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// keepPartial is how long layers of no image stay: what has come in of an image
// whose pull broke off is not fetched again.
const keepPartial = time.Hour

// Collect implements agent.Images.
func (s *Store) Collect(ctx context.Context) error {
	if _, err := s.sweep(keepPartial); err != nil {
		return err
	}
	if _, _, _, err := s.survey(ctx, time.Now()); err != nil {
		return err // it also remembers who uses what
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.dataDir, &disk); err != nil {
		return fmt.Errorf("free space in %s: %w", s.dataDir, err)
	}
	capacity, available := int64(disk.Blocks)*disk.Bsize, int64(disk.Bavail)*disk.Bsize
	if capacity == 0 {
		return errors.New("invalid capacity 0 on image filesystem")
	}
	need := s.thresholds.excess(capacity, available)
	if need == 0 {
		return nil
	}
	s.log.Info("The disk is fuller than images may make it", "bytes", need)
	freed, err := s.Free(ctx, need)
	if err == nil && freed < need {
		err = fmt.Errorf("%w. Attempted to free %d bytes, but only found %d bytes eligible to free.", agent.ErrNotEnoughFreed, need, freed)
	}
	return err
}

// Free implements agent.Images.
func (s *Store) Free(ctx context.Context, bytes int64) (freed int64, err error) {
	gone, swept, err := s.free(ctx, wish{bytes: bytes, minAge: s.thresholds.MinAge})
	for _, r := range gone {
		swept += r.Bytes
	}
	return swept, err
}

// Prune deletes the images without a name that nobody uses, or all that nobody
// uses, and the layers of no image.
func (s *Store) Prune(ctx context.Context, all bool) (Pruned, error) {
	gone, bytes, err := s.free(ctx, wish{bytes: math.MaxInt64, nameless: !all})
	pruned := Pruned{Images: []string{}, Bytes: bytes}
	for _, r := range gone {
		pruned.Images = append(pruned.Images, r.ID)
		pruned.Bytes += r.Bytes
	}
	return pruned, err
}

// free deletes layers that no image has, and then the images that plan names.
func (s *Store) free(ctx context.Context, w wish) (gone []removal, swept int64, err error) {
	if swept, err = s.sweep(0); err != nil {
		return nil, swept, err
	}
	if w.bytes != math.MaxInt64 {
		w.bytes -= swept
	}
	now := time.Now()
	images, sizes, _, err := s.survey(ctx, now)
	if err != nil {
		return nil, swept, err
	}
	for _, next := range plan(now, images, sizes, w) {
		if err := ctx.Err(); err != nil {
			return gone, swept, err
		}
		switch err := s.deleteUnused(ctx, next.ID); {
		case errors.Is(err, ErrInUse), errors.Is(err, storage.ErrImageUnknown): // since it was looked at
		case err != nil:
			return gone, swept, err
		default:
			s.log.Info("Deleted image", "image", next.ID, "bytes", next.Bytes, "why", next.Why)
			gone = append(gone, next)
		}
	}
	return gone, swept, s.keepRecords()
}

// survey says what is here, who uses it, and since when nobody does.
func (s *Store) survey(ctx context.Context, now time.Time) (images []candidate, sizes map[string]int64, used map[string][]string, err error) {
	stored, err := s.storage.Images()
	if err != nil {
		return nil, nil, nil, err
	}
	layers, err := s.storage.Layers()
	if err != nil {
		return nil, nil, nil, err
	}
	if used, err = s.users(ctx); err != nil {
		return nil, nil, nil, err
	}
	sizes = map[string]int64{}
	parents := map[string]string{}
	for _, layer := range layers {
		sizes[layer.ID], parents[layer.ID] = max(layer.UncompressedSize, 0), layer.Parent
	}
	var ids []string
	for _, img := range stored {
		ids = append(ids, "sha256:"+img.ID)
	}
	moments, err := s.usage.observe(now, ids, used)
	if err != nil {
		s.log.Warn("Image garbage collection", "err", err) // it forgets only when images were used
	}
	for _, img := range stored {
		id := "sha256:" + img.ID
		c := candidate{ID: id, Named: len(img.Names) > 0, Used: len(used[id]) > 0, moments: moments[id]}
		for layer := img.TopLayer; layer != ""; layer = parents[layer] {
			c.Layers = append(c.Layers, layer)
		}
		images = append(images, c)
	}
	return images, sizes, used, nil
}

// users returns who uses each image that is in use, by its ID.
func (s *Store) users(ctx context.Context) (map[string][]string, error) {
	used := map[string][]string{}
	if s.inUse == nil {
		return used, nil
	}
	wanted, err := s.inUse(ctx)
	if err != nil {
		return nil, fmt.Errorf("images in use: %w", err)
	}
	for ref, by := range wanted {
		stored, _, err := s.lookup(ref)
		switch {
		case errors.Is(err, agent.ErrImageNotFound), errors.Is(err, errReference): // not here
		case err != nil:
			return nil, err
		default:
			id := "sha256:" + stored.ID
			used[id] = append(used[id], by...)
		}
	}
	for id, by := range used {
		slices.Sort(by)
		used[id] = slices.Compact(by)
	}
	return used, nil
}

// few names some of a long list.
func few(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}

// deleteUnused deletes an image with the layers that no other has, unless
// somebody uses it (ErrInUse). Who looks for it meanwhile waits.
func (s *Store) deleteUnused(ctx context.Context, id string) error {
	s.deciding.Lock()
	defer s.deciding.Unlock()
	used, err := s.users(ctx)
	if err != nil {
		return err
	}
	if by, is := used[id]; is {
		return fmt.Errorf("%w: %s, by %s", ErrInUse, id, few(by))
	}
	return s.delete(id)
}

// delete deletes an image. s.deciding is held.
func (s *Store) delete(id string) error {
	plain := id[len("sha256:"):]
	if _, err := s.storage.DeleteImage(plain, true); err != nil {
		return fmt.Errorf("delete image %s: %w", id, err)
	}
	s.mu.Lock()
	delete(s.known, plain)
	s.mu.Unlock()
	return nil
}

// sweep deletes layers that no image has, once they are older than that, and
// returns their bytes: what is left of an image that did not come in whole. It
// leaves them for another time while one is coming in.
func (s *Store) sweep(older time.Duration) (bytes int64, err error) {
	if !s.writing.TryLock() {
		return 0, nil
	}
	defer s.writing.Unlock()
	layers, err := s.storage.Layers()
	if err != nil {
		return 0, err
	}
	images, err := s.storage.Images()
	if err != nil {
		return 0, err
	}
	unused := unusedLayers(layers, images)
	now := time.Now()
	for i, layer := range unused {
		if now.Sub(layer.Created) < older {
			continue
		}
		if slices.ContainsFunc(unused[:i], func(above storage.Layer) bool { return above.Parent == layer.ID && now.Sub(above.Created) < older }) {
			continue
		}
		if err := s.storage.DeleteLayer(layer.ID); err != nil {
			return bytes, fmt.Errorf("delete unused image layer: %w", err)
		}
		bytes += max(layer.UncompressedSize, 0)
	}
	return bytes, nil
}

// unusedLayers returns the layers that no image has, each before the one that it lies on.
func unusedLayers(layers []storage.Layer, images []storage.Image) []storage.Layer {
	parent, used := map[string]string{}, map[string]bool{}
	for _, layer := range layers {
		parent[layer.ID] = layer.Parent
	}
	for _, img := range images {
		for _, top := range append(slices.Clone(img.MappedTopLayers), img.TopLayer) {
			for id := top; id != "" && !used[id]; id = parent[id] {
				used[id] = true
			}
		}
	}
	depth := func(id string) (n int) {
		for ; id != ""; id = parent[id] {
			n++
		}
		return n
	}
	unused := slices.DeleteFunc(slices.Clone(layers), func(l storage.Layer) bool { return used[l.ID] })
	slices.SortFunc(unused, func(a, b storage.Layer) int { return depth(b.ID) - depth(a.ID) })
	return unused
}
