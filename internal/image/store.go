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
	"time"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/reexec"
	storagetypes "go.podman.io/storage/types"

	"windlass.dev/windlass/internal/agent"
)

// ErrInUse is returned by Remove for an image that a container was made from, or
// that a pod of this node is about to start from.
var ErrInUse = errors.New("image is in use")

// Config says where a Store is and which registries it trusts.
type Config struct {
	DataDir string // an absolute path; whoever calls New holds it alone

	// InsecureRegistries ("host" or "host:port") may be spoken to without TLS,
	// beside those on this machine.
	InsecureRegistries []string

	// MachineDir is where registries.conf, registries.d and certs.d are read that
	// the data directory does not have; "" is /etc/containers.
	MachineDir string

	// Thresholds say when unused images go; nil is DefaultThresholds.
	Thresholds *Thresholds

	// InUse returns the images that must stay, by ID ("sha256:…") or reference,
	// each with who uses it ("pod default/web"). It may be nil.
	InUse func(context.Context) (map[string][]string, error)

	Log *slog.Logger // nil is slog.Default()
}

// Store is the node's image store. It implements agent.Images and is safe for
// concurrent use.
type Store struct {
	dataDir    string
	config     configuration
	thresholds Thresholds
	inUse      func(context.Context) (map[string][]string, error)
	log        *slog.Logger
	storage    storage.Store
	system     *types.SystemContext // for what is no registry
	usage      *usage

	loading  sync.Mutex    // held by Load
	writing  sync.RWMutex  // held for reading while layers come in, for writing while unused ones go
	deciding sync.RWMutex  // held for writing from the decision that nobody uses an image until it is gone
	slots    chan struct{} // one for each pull that runs
	patience patience
	pulls    flights

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
	s := &Store{
		dataDir: dataDir, thresholds: DefaultThresholds, inUse: config.InUse, log: config.Log,
		slots: make(chan struct{}, parallelPulls), patience: pullPatience, known: map[string]*agent.Image{},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if config.Thresholds != nil {
		s.thresholds = *config.Thresholds
	}
	if s.config, err = config.configuration(s.tempDir()); err != nil {
		return nil, err
	}
	// What a crash left of archives.
	if err := os.RemoveAll(s.tempDir()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.tempDir(), 0o700); err != nil {
		return nil, err
	}
	if err := mendRecords(dataDir, s.log); err != nil {
		return nil, err
	}
	if s.storage, err = openStorage(dataDir); err != nil {
		return nil, fmt.Errorf("image store in %s: %w", dataDir, err)
	}
	s.usage = openUsage(imagesDir(dataDir), s.log)
	if s.system, err = s.config.base(); err != nil {
		return nil, err
	}
	if err := s.dropDamaged(); err != nil {
		return nil, fmt.Errorf("image store in %s: %w", dataDir, err)
	}
	if _, err := s.sweep(keepPartial); err != nil {
		return nil, fmt.Errorf("image store in %s: %w", dataDir, err)
	}
	return s, s.keepRecords()
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

// Find returns the image of a reference (a name, a name with a digest, an ID or
// the start of one), or an error that wraps agent.ErrImageNotFound.
func (s *Store) Find(_ context.Context, ref string) (*agent.Image, error) {
	s.deciding.RLock()
	defer s.deciding.RUnlock()
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
	c, created := config.Config, time.Time{}
	if config.Created != nil {
		created = *config.Created
	}
	return &agent.Image{
		Created:    created,
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal,
	}, nil
}

// Remove takes a name off an image, and deletes the image with the layers that
// no other image has when that was its last name, or when ref is its ID. An image
// in use is not deleted (ErrInUse), nor is its last name taken, unless force says
// so: then it has no name any more, and goes once nobody uses it.
func (s *Store) Remove(ctx context.Context, ref string, force bool) error {
	if err := s.remove(ctx, ref, force); err != nil {
		return err
	}
	return s.keepRecords()
}

func (s *Store) remove(ctx context.Context, ref string, force bool) error {
	s.deciding.Lock()
	defer s.deciding.Unlock()
	stored, name, err := s.lookup(ref)
	if err != nil {
		return err
	}
	if name != "" && slices.ContainsFunc(stored.Names, func(other string) bool { return other != name }) {
		return s.storage.RemoveNames(stored.ID, []string{name})
	}
	used, err := s.users(ctx)
	if err != nil {
		return err
	}
	id := "sha256:" + stored.ID
	switch by, is := used[id]; {
	case is && force:
		return s.storage.SetNames(stored.ID, nil)
	case is:
		return fmt.Errorf("%w: %s, by %s (--force takes its names; it goes once nobody uses it)", ErrInUse, ref, few(by))
	}
	return s.delete(id)
}
