package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/volume"
)

// watcher is an API of which only watches are asked.
type watcher struct {
	client.WithWatch
	mu      sync.Mutex
	watches []*watch.FakeWatcher // that were begun
	refuses bool
}

func (w *watcher) Watch(ctx context.Context, _ client.ObjectList, _ ...client.ListOption) (watch.Interface, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuses {
		return nil, errors.New("a node may not")
	}
	next := watch.NewFake()
	context.AfterFunc(ctx, next.Stop)
	w.watches = append(w.watches, next)
	return next, nil
}

func TestFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		api, told := &watcher{}, []volume.Material{}
		f := newFollower(api, func(m volume.Material) {
			api.mu.Lock()
			defer api.mu.Unlock()
			told = append(told, m)
		})
		shared, own := volume.Material{Kind: volume.ConfigMap, Namespace: "a", Name: "shared"}, volume.Material{Kind: volume.Secret, Namespace: "a", Name: "own"}
		first, second := map[volume.Material]bool{shared: true}, map[volume.Material]bool{shared: true, own: true}
		expect := func(what string, watches int, want ...volume.Material) {
			t.Helper()
			synctest.Wait()
			api.mu.Lock()
			defer api.mu.Unlock()
			if len(api.watches) != watches || !slices.Equal(told, want) {
				t.Errorf("%s: %d watches, told %v; want %d, %v", what, len(api.watches), told, watches, want)
			}
			told = nil
		}
		f.follow(ctx, first)
		expect("one pod", 1)
		f.follow(ctx, second)
		expect("two pods", 2)
		api.watches[0].Modify(&corev1.ConfigMap{})
		expect("a change", 2, shared)
		api.watches[1].Delete(&corev1.Secret{})
		expect("a deletion", 2, own)
		f.leave(first)
		api.watches[0].Modify(&corev1.ConfigMap{})
		expect("a change for the pod that is left", 2, shared)

		// A watch that ends is begun again.
		api.watches[0].Stop()
		time.Sleep(2 * time.Second)
		expect("again", 3)

		// One that is refused makes the pods look for themselves.
		refuse := func(yes bool) {
			synctest.Wait()
			api.mu.Lock()
			defer api.mu.Unlock()
			api.refuses, told = yes, nil
		}
		refuse(true)
		api.watches[2].Stop()
		time.Sleep(4 * time.Second)
		synctest.Wait()
		api.mu.Lock()
		heard := len(told)
		api.mu.Unlock()
		if heard == 0 {
			t.Error("nobody looks though the watch is refused")
		}
		refuse(false)
		time.Sleep(time.Minute)
		refuse(false) // what was told meanwhile does not matter
		expect("no more refused", 4)

		// What nobody can change is not watched any more.
		api.watches[1].Add(&corev1.Secret{Immutable: ptr.To(true)})
		expect("immutable", 4, own)
		f.leave(second)
		cancel()
		f.wait()
		expect("left", 4)
	})
}
