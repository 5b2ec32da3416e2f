package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
)

// recorder writes into the record of each rollout, while it runs, which traffic
// this node saw at its Services. While none runs it neither reads nor writes.
type recorder struct {
	client  client.Client
	node    string
	read    func() (map[string]v1alpha1.TrafficCount, error)
	leaving func(service string) bool
	log     *slog.Logger
	wake    chan struct{}

	mu      sync.Mutex
	records map[types.NamespacedName]*v1alpha1.RolloutRecord // that may have to be counted

	tallies map[types.NamespacedName]*tally // only run's goroutine touches it
}

func newRecorder(config Config, read func() (map[string]v1alpha1.TrafficCount, error), leaving func(string) bool, log *slog.Logger) *recorder {
	return &recorder{
		client: config.Client, node: config.NodeName, read: read, leaving: leaving, log: log,
		wake:    make(chan struct{}, 1),
		records: map[types.NamespacedName]*v1alpha1.RolloutRecord{},
		tallies: map[types.NamespacedName]*tally{},
	}
}

// handler returns one that tells the recorder of records. They are the cache's:
// they are read and never changed.
func (r *recorder) handler() toolscache.ResourceEventHandler {
	set := func(obj any) {
		record, ok := obj.(*v1alpha1.RolloutRecord)
		if !ok {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		key := client.ObjectKeyFromObject(record)
		_, known := r.records[key]
		if !counts(record, r.leaving, time.Now()) && !known {
			return
		}
		r.records[key] = record
		if !known {
			notify(r.wake)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if record, ok := obj.(*v1alpha1.RolloutRecord); ok {
				r.mu.Lock()
				delete(r.records, client.ObjectKeyFromObject(record))
				r.mu.Unlock()
			}
		},
	}
}

// run counts until ctx ends: from the moment that a record is there, and then
// once for every writeEvery.
func (r *recorder) run(ctx context.Context) {
	ticker := time.NewTicker(writeEvery)
	defer ticker.Stop()
	for {
		var tick <-chan time.Time
		if len(r.present()) > 0 {
			tick = ticker.C
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-tick:
		}
		if err := r.step(ctx, time.Now()); err != nil && ctx.Err() == nil {
			r.log.Error("traffic of rollouts not recorded; will try again", "error", err, "after", writeEvery)
		}
	}
}

// step counts once and writes what is due.
func (r *recorder) step(ctx context.Context, now time.Time) error {
	records := r.present()
	for key := range r.tallies {
		if records[key] == nil {
			delete(r.tallies, key)
		}
	}
	if len(records) == 0 {
		return nil
	}
	sums, err := r.read()
	if err != nil {
		return err
	}
	var failed error
	for key, record := range records {
		t := r.tallies[key]
		if t == nil || t.record != record.UID {
			t = newTally(record, r.node, sums)
			r.tallies[key] = t
		}
		t.advance(sums)
		final := !counts(record, r.leaving, now)
		if t.due(now, final) {
			if err := r.write(ctx, key, t.count); err != nil {
				failed = err
				continue
			}
			t.wrote(now)
		}
		if final {
			r.finish(key, record)
		}
	}
	return failed
}

func (r *recorder) present() map[types.NamespacedName]*v1alpha1.RolloutRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.records)
}

// finish ends the count of a record, unless that has changed meanwhile.
func (r *recorder) finish(key types.NamespacedName, record *v1alpha1.RolloutRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.records[key] == record {
		delete(r.records, key)
		delete(r.tallies, key)
	}
}

// write sets the node's own entry in a record's status. A record that is no
// more needs none.
func (r *recorder) write(ctx context.Context, key types.NamespacedName, count v1alpha1.TrafficCount) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"traffic": map[string]any{r.node: count}}})
	if err != nil {
		return fmt.Errorf("traffic of rollout record %s: %w", key, err)
	}
	record := &v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	err = r.client.Status().Patch(ctx, record, client.RawPatch(types.MergePatchType, patch))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("traffic of rollout record %s: %w", key, err)
	}
	return nil
}
