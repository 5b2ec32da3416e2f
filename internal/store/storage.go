package store

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

var realClock = clock.RealClock{}

// Cached returns a decorator for generic.RESTOptions that keeps a resource in
// the store behind a watch cache: lists and watches are answered from memory,
// consistently, and any number of watches costs etcd one.
func (s *Store) Cached() generic.StorageDecorator {
	return func(
		config *storagebackend.ConfigForResource,
		resourcePrefix string,
		keyFunc func(obj runtime.Object) (string, error),
		newFunc, newListFunc func() runtime.Object,
		attrs storage.AttrFunc,
		triggers storage.IndexerFuncs,
		indexers *cache.Indexers,
	) (storage.Interface, factory.DestroyFunc, error) {
		raw, destroyRaw, err := s.raw(config, resourcePrefix, newFunc, newListFunc)
		if err != nil {
			return nil, nil, err
		}
		c, err := cacher.NewCacherFromConfig(cacher.Config{
			Storage:             sharing{raw},
			Versioner:           storage.APIObjectVersioner{},
			GroupResource:       config.GroupResource,
			EventsHistoryWindow: config.EventsHistoryWindow,
			ResourcePrefix:      resourcePrefix,
			KeyFunc:             keyFunc,
			NewFunc:             newFunc,
			NewListFunc:         newListFunc,
			GetAttrsFunc:        attrs,
			IndexerFuncs:        triggers,
			Indexers:            indexers,
			Codec:               config.Codec,
		})
		if err != nil {
			destroyRaw()
			return nil, nil, err
		}
		delegator := cacher.NewCacheDelegator(c, raw)
		return delegator, sync.OnceFunc(func() {
			delegator.Stop()
			c.Stop()
			destroyRaw()
		}), nil
	}
}

// Uncached returns a decorator that keeps a resource in the store without a
// cache, for kinds that are written often and read seldom.
func (s *Store) Uncached() generic.StorageDecorator {
	return func(
		config *storagebackend.ConfigForResource,
		resourcePrefix string,
		_ func(obj runtime.Object) (string, error),
		newFunc, newListFunc func() runtime.Object,
		_ storage.AttrFunc,
		_ storage.IndexerFuncs,
		_ *cache.Indexers,
	) (storage.Interface, factory.DestroyFunc, error) {
		return s.raw(config, resourcePrefix, newFunc, newListFunc)
	}
}

func (s *Store) raw(config *storagebackend.ConfigForResource, resourcePrefix string, newFunc, newListFunc func() runtime.Object) (storage.Interface, factory.DestroyFunc, error) {
	versioner := storage.APIObjectVersioner{}
	transformer := config.Transformer
	if transformer == nil {
		transformer = identity.NewEncryptCheckTransformer()
	}
	etcd, err := etcd3.New(s.client, s.compactor, config.Codec, newFunc, newListFunc, config.Prefix, resourcePrefix,
		config.GroupResource, transformer, config.LeaseManagerConfig, etcd3.NewDefaultDecoder(config.Codec, versioner), versioner)
	if err != nil {
		return nil, nil, err
	}
	return prompt{etcd}, etcd.Close, nil
}

// prompt is a storage that asks for a progress notice whenever somebody asks for
// the current version. The watch cache does that for a consistent read, then
// waits to have seen that version; by itself it asks for a notice only every
// 100 ms, which a list right after a write to another resource would wait for.
type prompt struct{ storage.Interface }

// GetCurrentResourceVersion implements storage.Interface.
func (p prompt) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	version, err := p.Interface.GetCurrentResourceVersion(ctx)
	if err != nil {
		return 0, err
	}
	// A notice that does not come is asked for again by the cache itself.
	_ = p.RequestWatchProgress(ctx)
	return version, nil
}

// endpoint names the in-process etcd, which has no address, to the check of
// what it is able to do.
type endpoint struct{ *clientv3.Client }

// Endpoints returns the client's addresses, or a name for the process's own etcd.
func (e endpoint) Endpoints() []string {
	if all := e.Client.Endpoints(); len(all) > 0 {
		return all
	}
	return []string{"in-process"}
}
