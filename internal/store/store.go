package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"golang.org/x/sys/unix"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/feature"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// ErrInUse is wrapped by Open's error when another process holds the directory.
var ErrInUse = errors.New("in use by another process")

const (
	// tick is etcd's heartbeat. A lone member elects itself within five of them,
	// so it bounds the time to start; each one costs some idle CPU.
	tick = 20 * time.Millisecond

	// segmentBytes is the size of a write-ahead log segment. Two are
	// preallocated at first start.
	segmentBytes = 8 << 20

	// quotaBytes is where etcd stops taking writes, to keep the directory bounded.
	quotaBytes = 8 << 30

	// entriesPerSnapshot bounds the log entries that etcd keeps in memory.
	entriesPerSnapshot = 2000

	// compactEvery is how long old revisions, and with them watches that
	// start in the past, stay possible.
	compactEvery = 5 * time.Minute

	startTimeout = 30 * time.Second
	closeTimeout = 10 * time.Second
)

// Config says where a Store is.
type Config struct {
	// Dir is the directory of the embedded etcd. It is made, with its parents,
	// when it does not exist, readable by its owner only.
	Dir string

	// Log gets etcd's warnings and errors; nil is slog's default.
	Log *slog.Logger
}

// Store is an open store. It is safe for concurrent use.
type Store struct {
	client    *kubernetes.Client
	compactor etcd3.Compactor
	failure   *failure
	closers   []func()
	once      sync.Once
}

// Open starts the embedded etcd on cfg.Dir and returns once it takes writes,
// or fails within 30 s. It is the one constructor here that starts something:
// the API server's storage layer needs a store that answers while it is built.
// The error says which directory it concerns and wraps ErrInUse when another
// process holds it; a full or damaged directory is named with etcd's reason.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("close the store's directory to others: %w", err)
	}
	held, err := hold(cfg.Dir)
	if err != nil {
		return nil, err
	}
	failed := newFailure()
	etcd, err := start(ctx, cfg, failed)
	if err != nil {
		_ = held.Close()
		return nil, fmt.Errorf("open the store in %s: %w", cfg.Dir, err)
	}
	s := fromClient(v3client.New(etcd.Server))
	s.failure = failed
	room := make(chan struct{})
	go keepRoom(databasePath(cfg.Dir), cfg.Log, room)
	s.closers = append(s.closers,
		func() { close(room) },
		func() { stop(etcd, failed, cfg.Log) },
		func() { _ = held.Close() },
	)
	return s, nil
}

// fromClient returns a store that speaks to an etcd reached by client, which
// the store closes when it is closed.
func fromClient(client *clientv3.Client) *Store {
	setFeatures()
	wrapped := &kubernetes.Client{Client: client}
	wrapped.Kubernetes = wrapped
	client.KV = etcd3.NewETCDLatencyTracker(client.KV)
	feature.DefaultFeatureSupportChecker.CheckClient(client.Ctx(), endpoint{client}, storage.RequestWatchProgress)
	compactor := etcd3.NewCompactor(client, compactEvery, realClock, func() {})
	return &Store{
		client:    wrapped,
		compactor: compactor,
		failure:   newFailure(),
		closers:   []func(){compactor.Stop, func() { _ = client.Close() }},
	}
}

// Failed delivers the reason once when the embedded etcd cannot go on, as when
// its disk is full. The store then takes no more writes and should be closed.
func (s *Store) Failed() <-chan error { return s.failure.reason }

// Ready returns nil when the store answers a consistent read before ctx ends.
func (s *Store) Ready(ctx context.Context) error {
	if _, err := s.client.KV.Get(ctx, "health"); err != nil {
		return fmt.Errorf("read from the store: %w", err)
	}
	return nil
}

// Close ends the store in order: what was acknowledged is on disk. Resources
// that use it must have been destroyed before. It may be called more than once.
func (s *Store) Close() {
	s.once.Do(func() {
		for _, end := range s.closers {
			end()
		}
	})
}

// hold takes the directory for this process, as etcd itself would wait forever.
func hold(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the store's lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("the store in %s is %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, nil
}

// etcdConfig describes a lone member that listens nowhere. The peer address is
// its name in the member list; nothing is bound to it.
func etcdConfig(cfg Config, failed *failure) *embed.Config {
	nowhere := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	c := embed.NewConfig()
	c.Name = "windlass"
	c.Dir = cfg.Dir
	c.InitialCluster = c.Name + "=" + nowhere.String()
	c.AdvertisePeerUrls = []url.URL{nowhere}
	c.ListenPeerUrls, c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil, nil
	c.TickMs = uint(tick.Milliseconds())
	c.ElectionMs = 5 * c.TickMs
	c.QuotaBackendBytes = quotaBytes
	c.SnapshotCount = entriesPerSnapshot
	c.SnapshotCatchUpEntries = entriesPerSnapshot / 20
	c.BackendFreelistType = "map"
	c.EnableGRPCGateway = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZapLogger(cfg.Log, failed))
	return c
}

// setFeatures has watch caches keep no snapshot of their index for every write:
// these cost a fifth of the memory of a rollout, and only serve the further
// pages of a list, which come from etcd without them.
var setFeatures = sync.OnceFunc(func() {
	if err := utilfeature.DefaultMutableFeatureGate.Set(string(features.ListFromCacheSnapshot) + "=false"); err != nil {
		panic("store: " + err.Error()) // the library does not know a feature that it has
	}
})

var setSegmentSize = sync.OnceFunc(func() { wal.SegmentSizeBytes = segmentBytes })

// start runs etcd's start in a goroutine of its own, which ends when etcd meets
// something that it logs as fatal: a damaged file, a full disk.
func start(ctx context.Context, cfg Config, failed *failure) (*embed.Etcd, error) {
	setSegmentSize()
	var (
		etcd *embed.Etcd
		err  error
		done = make(chan struct{})
	)
	go func() {
		defer close(done)
		defer func() {
			if cause := recover(); cause != nil {
				failed.report(fmt.Errorf("%v", cause))
			}
		}()
		etcd, err = embed.StartEtcd(etcdConfig(cfg, failed))
	}()
	select {
	case <-done:
	case reason := <-failed.reason:
		return nil, reason
	}
	switch {
	case err != nil:
		return nil, err
	case etcd == nil:
		return nil, <-failed.reason
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err = <-failed.reason:
	case err = <-etcd.Err():
		etcd.Close()
	case <-ctx.Done():
		etcd.Close()
		err = fmt.Errorf("etcd did not become ready: %w", ctx.Err())
	}
	return nil, err
}

// stop closes etcd, but does not wait for one that has failed: its goroutines
// are gone, and what it acknowledged is in the log.
func stop(etcd *embed.Etcd, failed *failure, log *slog.Logger) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		etcd.Close()
	}()
	patience := closeTimeout
	if failed.happened() {
		patience = time.Second
	}
	select {
	case <-done:
	case <-time.After(patience):
		log.Warn("etcd did not stop in time; its log is complete", "waited", patience)
	}
}

// failure carries the first fatal error of etcd, once, to whoever listens.
type failure struct {
	reason chan error
	once   sync.Once
	set    chan struct{}
}

func newFailure() *failure {
	return &failure{reason: make(chan error, 1), set: make(chan struct{})}
}

func (f *failure) report(err error) {
	f.once.Do(func() {
		f.reason <- err
		close(f.set)
	})
}

func (f *failure) happened() bool {
	select {
	case <-f.set:
		return true
	default:
		return false
	}
}

// giveUp ends the goroutine in which etcd met a fatal error. Exiting the
// process, which is etcd's way, would take running parts down without order.
func (f *failure) giveUp(err error) {
	f.report(err)
	runtime.Goexit()
}
