package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/signature"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"
)

// reserve is the free space, in bytes, that loading an image leaves in the data
// directory: the rest of Windlass writes there too.
const reserve = 64 << 20

// source is one image in an archive.
type source struct {
	ref   types.ImageReference
	names []string // normalised
}

// Load stores the images of an archive that docker save or an OCI tool has made,
// plain or compressed (gzip, bzip2, xz, zstd), and returns their names, or the ID
// of one that has none. Names move here from images that had them. Either all
// images are stored or none.
func (s *Store) Load(ctx context.Context, archive io.Reader) ([]string, error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	dir, err := os.MkdirTemp(s.tempDir(), "load-")
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer os.RemoveAll(dir)
	sources, done, err := s.open(ctx, archive, dir)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer done()
	names, err := s.loadAll(ctx, sources)
	if err != nil {
		_, undo := s.sweep(0)
		return nil, fmt.Errorf("load images: %w", errors.Join(err, undo))
	}
	return names, s.keepRecords()
}

// open brings an archive into dir and returns the images in it. They are
// readable until done is called.
func (s *Store) open(ctx context.Context, archive io.Reader, dir string) (_ []source, done func(), err error) {
	file, err := s.spool(ctx, archive, dir)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	kind, err := inspect(file)
	if err != nil {
		return nil, nil, err
	}
	if err := checkSpace(s.dataDir, size+reserve); err != nil {
		return nil, nil, err
	}
	if kind == dockerArchive {
		reader, err := dockerarchive.NewReader(s.system, file.Name())
		if err != nil {
			return nil, nil, err
		}
		sources, err := dockerSources(reader)
		return sources, func() { _ = reader.Close() }, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	if err := unpackLayout(file, dir); err != nil {
		return nil, nil, err
	}
	sources, err := layoutSources(dir)
	return sources, func() {}, err
}

// spool writes an archive, uncompressed, to a file in dir, and returns it at its end.
func (s *Store) spool(ctx context.Context, archive io.Reader, dir string) (*os.File, error) {
	input := bufio.NewReader(archive)
	switch _, err := input.Peek(1); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: the input is empty", errNotArchive)
	case err != nil:
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	format, decompress, all, err := compression.DetectCompressionFormat(input)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	what := "archive"
	if decompress != nil {
		what = format.Name() + " archive"
		plain, err := decompress(all)
		if err != nil {
			return nil, fmt.Errorf("%w: damaged %s: %w", errNotArchive, what, err)
		}
		defer plain.Close()
		all = plain
	}
	file, err := os.Create(filepath.Join(dir, "archive.tar"))
	if err != nil {
		return nil, err
	}
	for total := int64(0); ; {
		if err := errors.Join(ctx.Err(), checkSpace(s.dataDir, reserve)); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		n, err := io.CopyN(file, all, 32<<20)
		total += n
		switch {
		case errors.Is(err, io.EOF):
			return file, nil
		case errors.Is(err, unix.ENOSPC):
			return nil, errors.Join(fmt.Errorf("data directory %s is full: %w", s.dataDir, err), file.Close())
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errors.Join(fmt.Errorf("%w: truncated %s, after %d bytes of content", errNotArchive, what, total), file.Close())
		case err != nil:
			return nil, errors.Join(fmt.Errorf("read the %s, after %d bytes of content: %w", what, total, err), file.Close())
		}
	}
}

// checkSpace refuses to go on when less than need bytes are free in a directory.
func checkSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("free space in %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("data directory %s is full: %d MiB are free, %d MiB are needed: %w", dir, free>>20, need>>20, unix.ENOSPC)
	}
	return nil
}

// dockerSources lists the images of a docker save archive.
func dockerSources(reader *dockerarchive.Reader) ([]source, error) {
	listed, err := reader.List()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotArchive, err)
	}
	var sources []source
	for _, refs := range listed {
		found := source{ref: refs[0]}
		for _, ref := range refs {
			if named := ref.DockerReference(); named != nil {
				found.names = append(found.names, named.String())
			}
		}
		sources = append(sources, found)
	}
	return sources, nil
}

// layoutSources lists the images for this machine in an OCI image layout.
func layoutSources(dir string) ([]source, error) {
	data, err := os.ReadFile(filepath.Join(dir, imagespec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	// The library insists on this file, some tools do not write it.
	marker := filepath.Join(dir, imagespec.ImageLayoutFile)
	if _, err := os.Stat(marker); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(marker, []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600); err != nil {
			return nil, err
		}
	}
	entries, err := parseIndex(data)
	if err != nil {
		return nil, err
	}
	var sources []source
	for _, entry := range entries {
		ref, err := layout.NewIndexReference(dir, entry.position)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source{ref: ref, names: entry.names})
	}
	return sources, nil
}

// indexEntry is an image in the index of an OCI image layout.
type indexEntry struct {
	position int
	names    []string
}

// parseIndex picks the images for this machine out of index.json (OCI image
// specification, image-index.md), with the names that annotations give them.
func parseIndex(data []byte) ([]indexEntry, error) {
	var index imagespec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("%w: its index.json: %w", errNotArchive, err)
	}
	var entries []indexEntry
	var others []string
	for i, m := range index.Manifests {
		if p := m.Platform; p != nil && (p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH) {
			others = append(others, p.OS+"/"+p.Architecture)
			continue
		}
		entries = append(entries, indexEntry{position: i, names: annotatedNames(m.Annotations)})
	}
	switch {
	case len(entries) > 0:
		return entries, nil
	case len(others) > 0:
		return nil, fmt.Errorf("the archive has no image for %s/%s: it has %s", runtime.GOOS, runtime.GOARCH, strings.Join(others, ", "))
	default:
		return nil, fmt.Errorf("%w: its index.json names no image", errNotArchive)
	}
}

// annotatedNames returns the image's name: containerd's annotation, which Docker
// writes too, or the specification's, when that is more than a tag.
func annotatedNames(annotations map[string]string) []string {
	for _, key := range []string{"io.containerd.image.name", imagespec.AnnotationRefName} {
		value := annotations[key]
		if !strings.ContainsAny(value, "/:") {
			continue
		}
		if named, err := reference.ParseDockerRef(value); err == nil {
			return []string{named.String()}
		}
	}
	return nil
}

// loadAll stores images and then names them. When one fails, those that were not
// there before are deleted again.
func (s *Store) loadAll(ctx context.Context, sources []source) (names []string, err error) {
	s.writing.RLock()
	defer s.writing.RUnlock()
	var fresh []string
	defer func() {
		if err == nil {
			return
		}
		for _, id := range fresh {
			if _, undo := s.storage.DeleteImage(id, true); undo != nil {
				s.log.Error("Deleting an image after a failed load", "image", id, "err", undo)
			}
		}
	}()
	ids, arrived := make([]string, len(sources)), make([]string, len(sources))
	for i, src := range sources {
		var isNew bool
		ids[i], isNew, err = s.copyFromArchive(ctx, src.ref)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", strings.Join(src.names, ", "), err)
		}
		if isNew {
			fresh = append(fresh, ids[i])
		}
		arrived[i] = "sha256:" + ids[i]
	}
	for i, src := range sources {
		if len(src.names) == 0 {
			names = append(names, "sha256:"+ids[i])
			continue
		}
		if err := s.storage.AddNames(ids[i], src.names); err != nil {
			return nil, fmt.Errorf("name image %s: %w", ids[i], err)
		}
		names = append(names, src.names...)
	}
	slices.Sort(names)
	return slices.Compact(names), s.usage.arrived(arrived...)
}

// copyFromArchive stores one image without a name and returns its ID, and whether
// it is new here.
func (s *Store) copyFromArchive(ctx context.Context, from types.ImageReference) (id string, isNew bool, err error) {
	img, err := from.NewImage(ctx, s.system)
	if err != nil {
		return "", false, err
	}
	id = img.ConfigInfo().Digest.Encoded()
	if err := img.Close(); err != nil {
		return "", false, err
	}
	isNew = !s.storage.Exists(id)
	to, err := istorage.Transport.NewStoreReference(s.storage, nil, id)
	if err != nil {
		return "", false, err
	}
	return id, isNew, s.copy(ctx, from, to, s.system, nil)
}

// copy stores an image, whoever signed it, and tells events, unless that is nil,
// how far it is. What is here already is not fetched.
func (s *Store) copy(ctx context.Context, from, to types.ImageReference, system *types.SystemContext, events chan types.ProgressProperties) error {
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		return err
	}
	_, err = copy.Image(ctx, policy, to, from, &copy.Options{
		SourceCtx: system, DestinationCtx: s.system, RemoveSignatures: true,
		Progress: events, ProgressInterval: eachRead,
	})
	return errors.Join(err, policy.Destroy())
}
