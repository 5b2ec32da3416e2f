package apiserver

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"windlass.dev/windlass/internal/apiserver/columns"
	"windlass.dev/windlass/internal/store"
)

// keyspace is the root of all keys, the one that Kubernetes uses.
const keyspace = "/registry"

// registries makes the storage of kinds.
type registries struct {
	scheme *runtime.Scheme
	codecs codecs
	store  *store.Store
}

// resource is one kind's storage as the API's main resource of that kind.
type resource struct {
	*registry.Store
	kind *kind
}

var (
	_ rest.StandardStorage      = resource{}
	_ rest.ShortNamesProvider   = resource{}
	_ rest.CategoriesProvider   = resource{}
	_ rest.SingularNameProvider = resource{}
)

// ShortNames implements rest.ShortNamesProvider.
func (r resource) ShortNames() []string { return r.kind.shortNames }

// Categories implements rest.CategoriesProvider.
func (r resource) Categories() []string { return r.kind.categories }

// open returns the storage of k, ready to serve.
func (r registries) open(k *kind) (resource, error) {
	plain := strategy{ObjectTyper: r.scheme, NameGenerator: names.SimpleNameGenerator, kind: k}
	s := &registry.Store{
		NewFunc:                   k.newObject,
		NewListFunc:               k.newList,
		DefaultQualifiedResource:  k.groupResource(),
		SingularQualifiedResource: schema.GroupResource{Group: k.group, Resource: k.singular},
		CreateStrategy:            plain,
		UpdateStrategy:            plain,
		DeleteStrategy:            plain,
		ResetFieldsStrategy:       plain,
		TableConvertor:            columns.For(k.groupResource()),
	}
	if k.graceful != nil {
		s.DeleteStrategy = gracefulStrategy{plain}
		s.ReturnDeletedObject = true
	}
	if k.ttl > 0 {
		s.TTLFunc = func(runtime.Object, uint64, bool) (uint64, error) { return k.ttl, nil }
	}
	options := &generic.StoreOptions{
		RESTOptions: restOptions{r, k},
		AttrFunc:    k.attributes,
	}
	if k.resource == "pods" {
		options.TriggerFunc, options.Indexers = podTriggers, podIndexers
	}
	if err := s.CompleteWithOptions(options); err != nil {
		return resource{}, fmt.Errorf("storage of %s: %w", k.groupResource(), err)
	}
	return resource{Store: s, kind: k}, nil
}

// attributes returns what selectors look at.
func (k *kind) attributes(obj runtime.Object) (labels.Set, fields.Set, error) {
	m := metaOf(obj)
	set := fields.Set{}
	if k.fields != nil {
		set = k.fields(obj)
	}
	set["metadata.name"] = m.GetName()
	if !k.global {
		set["metadata.namespace"] = m.GetNamespace()
	}
	return m.GetLabels(), set, nil
}

// restOptions says how one kind is kept in the store.
type restOptions struct {
	registries
	kind *kind
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (o restOptions) GetRESTOptions(resource schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	config := storagebackend.NewDefaultConfig(keyspace, nil)
	codecs := o.codecs.of(o.kind.group)
	var err error
	config.Codec, config.EncodeVersioner, err = serverstorage.NewStorageCodec(serverstorage.StorageCodecConfig{
		StorageMediaType:  codecs.stored(),
		StorageSerializer: codecs,
		StorageVersion:    o.kind.version(),
		MemoryVersion:     schema.GroupVersion{Group: o.kind.group, Version: runtime.APIVersionInternal},
		Config:            *config,
	})
	if err != nil {
		return generic.RESTOptions{}, fmt.Errorf("storage codec of %s: %w", resource, err)
	}
	decorator := o.store.Cached()
	if o.kind.uncached {
		decorator = o.store.Uncached()
	}
	return generic.RESTOptions{
		StorageConfig:           config.ForResource(resource),
		Decorator:               decorator,
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: 1,
		ResourcePrefix:          o.kind.storePrefix(),
	}, nil
}

// stored reads every object of k from the store itself, for use before the
// watch cache is filled.
func (r registries) stored(ctx context.Context, k *kind) (runtime.Object, error) {
	options, err := restOptions{r, k}.GetRESTOptions(k.groupResource(), nil)
	if err != nil {
		return nil, err
	}
	raw, destroy, err := r.store.Uncached()(options.StorageConfig, k.storePrefix(), nil, k.newObject, k.newList, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer destroy()
	list := k.newList()
	err = raw.GetList(ctx, k.storePrefix(), storage.ListOptions{Predicate: storage.Everything, Recursive: true}, list)
	if err != nil {
		return nil, fmt.Errorf("read all %s: %w", k.groupResource(), err)
	}
	return list, nil
}

// status is the status subresource of a kind.
type status struct{ store *registry.Store }

var (
	_ rest.Patcher             = status{}
	_ rest.ResetFieldsStrategy = status{}
	_ rest.Storage             = status{}
)

func (r resource) status() status {
	shared := *r.Store
	shared.UpdateStrategy = statusStrategy{r.Store.UpdateStrategy.(strategy)}
	shared.ResetFieldsStrategy = shared.UpdateStrategy.(rest.ResetFieldsStrategy)
	shared.BeginUpdate, shared.AfterUpdate = nil, nil
	return status{store: &shared}
}

// New implements rest.Storage.
func (s status) New() runtime.Object { return s.store.NewFunc() }

// Destroy implements rest.Storage. The main resource owns what there is to destroy.
func (s status) Destroy() {}

// Get implements rest.Getter.
func (s status) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, options)
}

// Update implements rest.Updater; it never creates.
func (s status) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.store.Update(ctx, name, info, create, update, false, options)
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s status) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.store.GetResetFields()
}

// ConvertToTable implements rest.TableConvertor.
func (s status) ConvertToTable(ctx context.Context, object, options runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, object, options)
}
