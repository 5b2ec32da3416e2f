package apiserver

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"windlass.dev/windlass/internal/apiserver/validation"
)

type gracefulFunc func(ctx context.Context, obj runtime.Object, options *metav1.DeleteOptions) bool

// strategy is how objects of a kind are written through their main resource: the
// user owns the spec, the status is left as it is.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	kind *kind
}

var (
	_ rest.RESTCreateStrategy              = strategy{}
	_ rest.RESTUpdateStrategy              = strategy{}
	_ rest.GarbageCollectionDeleteStrategy = strategy{}
	_ rest.ResetFieldsStrategy             = strategy{}
)

// NamespaceScoped implements rest.RESTCreateStrategy.
func (s strategy) NamespaceScoped() bool { return !s.kind.global }

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (s strategy) AllowCreateOnUpdate(context.Context) bool { return s.kind.createOnUpdate }

// AllowUnconditionalUpdate implements rest.RESTUpdateStrategy.
func (s strategy) AllowUnconditionalUpdate(context.Context) bool { return !s.kind.mustBeCurrent }

// Canonicalize implements rest.RESTCreateStrategy. Nothing needs it.
func (strategy) Canonicalize(runtime.Object) {}

// PrepareForCreate implements rest.RESTCreateStrategy.
func (s strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	if status := part(obj, "Status"); status.IsValid() && !s.kind.keepsStatus {
		status.SetZero()
	}
	if s.kind.generation {
		metaOf(obj).SetGeneration(1)
	}
	if s.kind.prepareCreate != nil {
		s.kind.prepareCreate(ctx, obj)
	}
	if s.kind.authored != nil {
		stampAuthor(ctx, obj)
	}
}

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (s strategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	if status := part(obj, "Status"); status.IsValid() {
		status.Set(part(old, "Status"))
	}
	if s.kind.authored != nil {
		keepAuthor(obj, old)
	}
	if s.kind.prepareUpdate != nil {
		s.kind.prepareUpdate(ctx, obj, old)
	}
	if s.kind.generation && !sameSpec(obj, old) {
		metaOf(obj).SetGeneration(metaOf(old).GetGeneration() + 1)
	}
	if s.kind.authored != nil && !equality.Semantic.DeepEqual(s.kind.authored(obj), s.kind.authored(old)) {
		stampAuthor(ctx, obj)
	}
	if s.kind.authored != nil {
		disownSpec(ctx, obj)
	}
}

// Validate implements rest.RESTCreateStrategy.
func (strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	return validation.Create(obj)
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.Update(obj, old)
}

// WarningsOnCreate implements rest.RESTCreateStrategy.
func (s strategy) WarningsOnCreate(_ context.Context, obj runtime.Object) []string {
	if s.kind.warnings == nil {
		return nil
	}
	return s.kind.warnings(obj, nil)
}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (s strategy) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	if s.kind.warnings == nil {
		return nil
	}
	return s.kind.warnings(obj, old)
}

// DefaultGarbageCollectionPolicy implements rest.GarbageCollectionDeleteStrategy.
func (s strategy) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	if s.kind.collection == "" {
		return rest.DeleteDependents
	}
	return s.kind.collection
}

// GetResetFields implements rest.ResetFieldsStrategy: applying to the main
// resource does not make one the owner of status fields, nor of the author.
func (s strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return resetFields(s.kind, fieldpath.MakePathOrDie("status"))
}

// gracefulStrategy is a strategy for kinds that are deleted in two steps.
type gracefulStrategy struct{ strategy }

// CheckGracefulDelete implements rest.RESTGracefulDeleteStrategy.
func (s gracefulStrategy) CheckGracefulDelete(ctx context.Context, obj runtime.Object, options *metav1.DeleteOptions) bool {
	return s.kind.graceful(ctx, obj, options)
}

// statusStrategy is how the status subresource of a kind is written: everything
// but the status stays as it is.
type statusStrategy struct{ strategy }

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (s statusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	if spec := part(obj, "Spec"); spec.IsValid() {
		spec.Set(part(old, "Spec"))
	}
	if s.kind.authored != nil {
		keepAuthor(obj, old)
	}
	if s.kind.prepareStatus != nil {
		s.kind.prepareStatus(obj, old)
	}
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (statusStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.StatusUpdate(obj, old)
}

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (statusStrategy) AllowCreateOnUpdate(context.Context) bool { return false }

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (statusStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s statusStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return resetFields(s.kind, fieldpath.MakePathOrDie("spec"))
}

func resetFields(k *kind, path fieldpath.Path) map[fieldpath.APIVersion]*fieldpath.Set {
	set := fieldpath.NewSet(path)
	if k.authored != nil {
		set.Insert(authorPath)
	}
	return map[fieldpath.APIVersion]*fieldpath.Set{fieldpath.APIVersion(k.version().String()): set}
}

// part returns the field of obj called name, invalid when it has none.
func part(obj runtime.Object, name string) reflect.Value {
	return reflect.ValueOf(obj).Elem().FieldByName(name)
}

func sameSpec(obj, old runtime.Object) bool {
	return equality.Semantic.DeepEqual(part(obj, "Spec").Interface(), part(old, "Spec").Interface())
}

// metaOf returns the metadata of obj, which is one of k8s.io/api's types.
func metaOf(obj runtime.Object) metav1.Object {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		panic("apiserver: object without metadata: " + err.Error())
	}
	return accessor
}
