package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/volume"
)

// followBackOff is how soon a watch that has failed is tried again. Meanwhile
// those who follow look for themselves, as often.
var followBackOff = backOff{time.Second, 30 * time.Second}

// follower watches the ConfigMaps and Secrets that volumes on this node are made
// of, one by one and each of them once: a node has no business with any others.
type follower struct {
	client client.WithWatch
	tell   func(volume.Material) // of what has come, changed or gone, or may have

	mu      sync.Mutex
	watched map[volume.Material]*followed
	running sync.WaitGroup
}

type followed struct {
	by   int // pods
	stop context.CancelFunc
}

func newFollower(c client.WithWatch, tell func(volume.Material)) *follower {
	return &follower{client: c, tell: tell, watched: map[volume.Material]*followed{}}
}

// follow has changes of materials told until leave is called as often, or ctx ends.
func (f *follower) follow(ctx context.Context, materials map[volume.Material]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for material := range materials {
		if known := f.watched[material]; known != nil {
			known.by++
			continue
		}
		own, stop := context.WithCancel(ctx)
		f.watched[material] = &followed{by: 1, stop: stop}
		f.running.Go(func() { f.run(own, material) })
	}
}

// leave undoes one follow.
func (f *follower) leave(materials map[volume.Material]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for material := range materials {
		known := f.watched[material]
		if known == nil {
			continue
		}
		if known.by--; known.by == 0 {
			known.stop()
			delete(f.watched, material)
		}
	}
}

// wait returns when nothing is watched any more; the context of follow has ended.
func (f *follower) wait() { f.running.Wait() }

func (f *follower) run(ctx context.Context, material volume.Material) {
	for failures := 0; ctx.Err() == nil; {
		settled, err := f.watch(ctx, material)
		if settled {
			return
		}
		failures++
		if err == nil {
			failures = 1
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(followBackOff.delay(failures)):
		}
		if err != nil {
			f.tell(material)
		}
	}
}

// watch tells of one object until the watch ends. It returns true if the object
// will not change any more.
func (f *follower) watch(ctx context.Context, material volume.Material) (bool, error) {
	list := client.ObjectList(&corev1.ConfigMapList{})
	if material.Kind == volume.Secret {
		list = &corev1.SecretList{}
	}
	w, err := f.client.Watch(ctx, list, client.InNamespace(material.Namespace), client.MatchingFields{"metadata.name": material.Name})
	if err != nil {
		return false, fmt.Errorf("watch %s %s/%s: %w", material.Kind, material.Namespace, material.Name, err)
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		switch event.Type {
		case apiwatch.Added, apiwatch.Modified, apiwatch.Deleted:
			f.tell(material)
		}
		if event.Type != apiwatch.Deleted && immutable(event.Object) {
			return true, nil
		}
	}
	return false, nil
}

// immutable: the API lets nobody change what an object holds.
func immutable(object any) bool {
	said := (*bool)(nil)
	switch o := object.(type) {
	case *corev1.ConfigMap:
		said = o.Immutable
	case *corev1.Secret:
		said = o.Immutable
	}
	return said != nil && *said
}
