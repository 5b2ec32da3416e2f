package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/reexec"
	storagetypes "go.podman.io/storage/types"

	"windlass.dev/windlass/internal/agent"
)

// ErrInUse is returned by Remove for an image that a container was made from.
var ErrInUse = errors.New("image is in use")

// Config says where a Store is and which registries it trusts.
type Config struct {
	DataDir string // an absolute path; whoever calls New holds it alone

	// InsecureRegistries ("host" or "host:port") may be spoken to without TLS,
	// beside those on this machine.
	InsecureRegistries []string

	// InUse returns the IDs ("sha256:…") of images that containers were made from,
	// each with the name of one such container. It may be nil.
	InUse func(context.Context) (map[string]string, error)

	Log *slog.Logger // nil is slog.Default()
}

// Store is the node's image store. It implements agent.Images and is safe for
// concurrent use.
type Store struct {
	dataDir  string
	insecure []string
	inUse    func(context.Context) (map[string]string, error)
	log      *slog.Logger
	storage  storage.Store
	system   *types.SystemContext

	loading sync.Mutex   // held by Load
	writing sync.RWMutex // held for reading while layers come in, for writing while unused ones go
	pulls   flights

	mu    sync.Mutex
	known map[string]*agent.Image // by ID: what never changes of an image
}

var _ agent.Images = (*Store)(nil)

// Reexec does the work of a copy of this program that extracts a layer, if that
// is what this process is, and reports it: the caller must return from main.
// Call it before anything else.
func Reexec() bool { return reexec.Init() }

// New opens the store in a data directory and makes what is missing of it.
func New(config Config) (*Store, error) {
	dataDir, err := filepath.Abs(config.DataDir)
	if err != nil {
		return nil, err
	}
	s := &Store{dataDir: dataDir, insecure: config.InsecureRegistries, inUse: config.InUse, log: config.Log, known: map[string]*agent.Image{}}
	if s.log == nil {
		s.log = slog.Default()
	}
	// What a crash left of archives.
	if err := os.RemoveAll(s.tempDir()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.tempDir(), 0o700); err != nil {
		return nil, err
	}
	if s.storage, err = openStorage(dataDir); err != nil {
		return nil, fmt.Errorf("image store in %s: %w", dataDir, err)
	}
	if s.system, err = systemContext(dataDir, s.tempDir()); err != nil {
		return nil, err
	}
	s.sweep()
	return s, nil
}

func (s *Store) tempDir() string { return filepath.Join(s.dataDir, "images", "tmp") }

// Close gives up the pulls under way and gives back what New took. The store must
// not be used any more.
func (s *Store) Close() error {
	s.pulls.stop()
	_, err := s.storage.Shutdown(true)
	return err
}

// openStorage opens the layer and image storage, by what it is told here and no
// configuration file.
func openStorage(dataDir string) (storage.Store, error) {
	// The library reads its configuration file even when every option is given,
	// once for the life of the process.
	const variable = "CONTAINERS_STORAGE_CONF"
	old, was := os.LookupEnv(variable)
	if err := os.Setenv(variable, os.DevNull); err != nil {
		return nil, err
	}
	defer func() {
		if was {
			_ = os.Setenv(variable, old)
		} else {
			_ = os.Unsetenv(variable)
		}
	}()
	return storage.GetStore(storagetypes.StoreOptions{
		GraphRoot:          filepath.Join(dataDir, "images"),
		RunRoot:            filepath.Join(dataDir, "run", "images"),
		GraphDriverName:    "overlay",
		GraphDriverOptions: []string{"overlay.skip_mount_home=true"},
	})
}

// systemContext tells the image library to look nowhere but in the data directory.
func systemContext(dataDir, tempDir string) (*types.SystemContext, error) {
	in := func(name string) string { return filepath.Join(dataDir, name) }
	registries := in("registries.conf")
	if _, err := os.Stat(registries); errors.Is(err, os.ErrNotExist) {
		registries = os.DevNull
	} else if err != nil {
		return nil, err
	}
	return &types.SystemContext{
		SystemRegistriesConfPath:    registries,
		SystemRegistriesConfDirPath: in("registries.conf.d"),
		RegistriesDirPath:           in("registries.d"),
		DockerPerHostCertDirPath:    in("certs.d"),
		AuthFilePath:                in("auth.json"),
		BlobInfoCacheDir:            in("images/cache"),
		BigFilesTemporaryDir:        tempDir,
		DockerRegistryUserAgent:     "windlass",
	}, nil
}

// Find returns the image of a reference (a name, a name with a digest, an ID or
// the start of one), or an error that wraps agent.ErrImageNotFound.
func (s *Store) Find(_ context.Context, ref string) (*agent.Image, error) {
	stored, _, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	return s.describe(stored)
}

// lookup returns the stored image of a reference, and the name by which it was found, if by one.
func (s *Store) lookup(ref string) (*storage.Image, string, error) {
	want, err := parseReference(ref)
	if err != nil {
		return nil, "", err
	}
	if want.named != nil {
		found, err := s.byName(want.named)
		if err != nil || found != nil {
			return found, want.named.String(), err
		}
	}
	if want.id != "" {
		found, err := s.byID(want.id)
		if err != nil || found != nil {
			return found, "", err
		}
	}
	name := ref
	if want.named != nil {
		name = want.named.String()
	}
	return nil, "", fmt.Errorf("%w: %s", agent.ErrImageNotFound, name)
}

// byName returns the image with a name, or the one with its digest and a name in
// the same repository; nil when there is none.
func (s *Store) byName(named reference.Named) (*storage.Image, error) {
	found, err := s.storage.Image(named.String())
	if err == nil {
		return found, nil
	}
	if !errors.Is(err, storage.ErrImageUnknown) {
		return nil, err
	}
	digested, ok := named.(reference.Digested)
	if !ok {
		return nil, nil
	}
	same, err := s.storage.ImagesByDigest(digested.Digest())
	if err != nil && !errors.Is(err, storage.ErrImageUnknown) {
		return nil, err
	}
	for _, candidate := range same {
		for _, name := range candidate.Names {
			if other, err := reference.ParseNormalizedNamed(name); err == nil && other.Name() == named.Name() {
				return candidate, nil
			}
		}
	}
	return nil, nil
}

// byID returns the one image whose ID begins so, or nil.
func (s *Store) byID(start string) (*storage.Image, error) {
	all, err := s.storage.Images()
	if err != nil {
		return nil, err
	}
	var found *storage.Image
	for i := range all {
		if !strings.HasPrefix(all[i].ID, start) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("image ID %s is ambiguous: %s and %s begin so", start, found.ID, all[i].ID)
		}
		found = &all[i]
	}
	return found, nil
}

// List returns every image on the node, by name, those without a name last.
func (s *Store) List(ctx context.Context) ([]agent.Image, error) {
	all, err := s.storage.Images()
	if err != nil {
		return nil, err
	}
	list := make([]agent.Image, 0, len(all))
	for i := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		img, err := s.describe(&all[i])
		if errors.Is(err, storage.ErrImageUnknown) || errors.Is(err, storage.ErrLayerUnknown) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, *img)
	}
	slices.SortFunc(list, func(a, b agent.Image) int {
		return cmp.Or(cmp.Compare(min(len(b.Names), 1), min(len(a.Names), 1)), slices.Compare(a.Names, b.Names), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// describe says what an image is. All but its names and digest is kept: it is
// needed for every container, and never changes.
func (s *Store) describe(stored *storage.Image) (*agent.Image, error) {
	s.mu.Lock()
	known := s.known[stored.ID]
	s.mu.Unlock()
	if known == nil {
		var err error
		if known, err = s.read(stored); err != nil {
			return nil, fmt.Errorf("image %s: %w", stored.ID, err)
		}
		s.mu.Lock()
		s.known[stored.ID] = known
		s.mu.Unlock()
	}
	img := *known
	img.Names = slices.Sorted(slices.Values(stored.Names))
	img.Digest = stored.Digest.String()
	return &img, nil
}

// read reads an image's configuration and layers.
func (s *Store) read(stored *storage.Image) (*agent.Image, error) {
	data, err := s.storage.ImageBigData(stored.ID, storage.ImageDigestBigDataKey)
	if err != nil {
		return nil, err
	}
	var manifest struct {
		Config imagespec.Descriptor `json:"config"`
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if data, err = s.storage.ImageBigData(stored.ID, manifest.Config.Digest.String()); err != nil {
		return nil, err
	}
	img, err := parseConfig(data)
	if err != nil {
		return nil, err
	}
	img.ID = "sha256:" + stored.ID
	driver, err := s.storage.GraphDriver()
	if err != nil {
		return nil, err
	}
	for id := stored.TopLayer; id != ""; {
		layer, err := s.storage.Layer(id)
		if err != nil {
			return nil, err
		}
		where, err := driver.Metadata(id)
		if err != nil {
			return nil, err
		}
		img.Layers = append(img.Layers, where["UpperDir"])
		size := layer.UncompressedSize
		if size < 0 {
			if size, err = s.storage.DiffSize(layer.Parent, id); err != nil {
				return nil, err
			}
		}
		img.Size += size
		id = layer.Parent
	}
	return img, nil
}

// parseConfig reads an image's configuration (OCI image specification, config.md;
// Docker's has the same fields).
func parseConfig(data []byte) (*agent.Image, error) {
	var config imagespec.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c := config.Config
	return &agent.Image{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal,
	}, nil
}

// Remove takes a name off an image, and deletes the image with the layers that
// no other image has when that was its last name, or when ref is its ID. An image
// in use by a container is not deleted (ErrInUse).
func (s *Store) Remove(ctx context.Context, ref string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	stored, name, err := s.lookup(ref)
	if err != nil {
		return err
	}
	if name != "" && slices.ContainsFunc(stored.Names, func(other string) bool { return other != name }) {
		return s.storage.RemoveNames(stored.ID, []string{name})
	}
	if s.inUse != nil {
		used, err := s.inUse(ctx)
		if err != nil {
			return fmt.Errorf("images in use: %w", err)
		}
		if by, is := used["sha256:"+stored.ID]; is {
			return fmt.Errorf("%w: %s, by container %s", ErrInUse, ref, by)
		}
	}
	if _, err := s.storage.DeleteImage(stored.ID, true); err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	s.mu.Lock()
	delete(s.known, stored.ID)
	s.mu.Unlock()
	return nil
}

// sweep deletes layers that no image has: what is left of an image that did not
// come in whole. It leaves them for another time while one is coming in.
func (s *Store) sweep() {
	if !s.writing.TryLock() {
		return
	}
	defer s.writing.Unlock()
	if err := s.deleteUnusedLayers(); err != nil {
		s.log.Error("Deleting unused image layers", "err", err)
	}
}

func (s *Store) deleteUnusedLayers() error {
	layers, err := s.storage.Layers()
	if err != nil {
		return err
	}
	images, err := s.storage.Images()
	if err != nil {
		return err
	}
	parent, used := map[string]string{}, map[string]bool{}
	for _, layer := range layers {
		parent[layer.ID] = layer.Parent
	}
	for _, img := range images {
		for _, top := range append(img.MappedTopLayers, img.TopLayer) {
			for id := top; id != "" && !used[id]; id = parent[id] {
				used[id] = true
			}
		}
	}
	// A layer goes before the one that it lies on.
	depth := func(id string) (n int) {
		for ; id != ""; id = parent[id] {
			n++
		}
		return n
	}
	slices.SortFunc(layers, func(a, b storage.Layer) int { return depth(b.ID) - depth(a.ID) })
	for _, layer := range layers {
		if !used[layer.ID] {
			if err := s.storage.DeleteLayer(layer.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
