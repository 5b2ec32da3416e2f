package apiserver

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// A namespace is deleted in steps: DELETE marks it Terminating, a controller
// empties it and takes "kubernetes" off spec.finalizers through the finalize
// subresource, and then it goes.

func namespaceCreate(_ context.Context, obj runtime.Object) {
	n := obj.(*corev1.Namespace)
	n.Status.Phase = corev1.NamespaceActive
	if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
		n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
	labelNamespace(n)
}

func namespaceUpdate(_ context.Context, obj, old runtime.Object) {
	n := obj.(*corev1.Namespace)
	n.Spec.Finalizers = old.(*corev1.Namespace).Spec.Finalizers
	labelNamespace(n)
}

// labelNamespace keeps the label by which selectors can name a namespace.
func labelNamespace(n *corev1.Namespace) {
	if n.Name == "" {
		return
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}

// namespaces is the main resource. It cannot be deleted as a collection: that
// would pass by the steps.
type namespaces struct {
	singly
	resource resource
}

// singly is what a resource does, but for deleting.
type singly interface {
	rest.StorageWithReadiness
	rest.Scoper
	rest.Getter
	rest.Lister
	rest.Watcher
	rest.Creater
	rest.Updater
	rest.ShortNamesProvider
	rest.CategoriesProvider
	rest.SingularNameProvider
	rest.ResetFieldsStrategy
	rest.StorageVersionProvider
	rest.MayReturnFullObjectDeleter
}

var _ rest.GracefulDeleter = namespaces{}

func newNamespaces(r resource) namespaces {
	r.Store.ShouldDeleteDuringUpdate = func(_ context.Context, _ string, obj, _ runtime.Object) bool {
		return len(obj.(*corev1.Namespace).Spec.Finalizers) == 0
	}
	r.Store.ReturnDeletedObject = true
	return namespaces{singly: r, resource: r}
}

// Delete implements rest.GracefulDeleter: the first call marks the namespace,
// the one after it is emptied removes it.
func (n namespaces) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	current, err := n.resource.Store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, false, err
	}
	namespace := current.(*corev1.Namespace)
	if options == nil {
		options = metav1.NewDeleteOptions(0)
	}
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	if options.Preconditions.UID == nil {
		options.Preconditions.UID = &namespace.UID
	}
	if namespace.DeletionTimestamp == nil {
		marked, err := n.mark(ctx, name, validate, options)
		return marked, false, err
	}
	if len(namespace.Spec.Finalizers) > 0 {
		return namespace, false, nil
	}
	return n.resource.Store.Delete(ctx, name, validate, options)
}

// mark sets the deletion timestamp and the phase. The library's Update leaves
// deletion timestamps alone, so this goes to the storage.
func (n namespaces) mark(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, error) {
	key, err := n.resource.Store.KeyFunc(ctx, name)
	if err != nil {
		return nil, err
	}
	out := n.resource.Store.NewFunc()
	err = n.resource.Store.Storage.GuaranteedUpdate(ctx, key, out, false,
		&storage.Preconditions{UID: options.Preconditions.UID, ResourceVersion: options.Preconditions.ResourceVersion},
		storage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
			if err := validate(ctx, existing); err != nil {
				return nil, err
			}
			namespace := existing.(*corev1.Namespace)
			if namespace.DeletionTimestamp == nil {
				now := metav1.Now()
				namespace.DeletionTimestamp = &now
			}
			namespace.Status.Phase = corev1.NamespaceTerminating
			namespace.Finalizers = collectionFinalizers(namespace.Finalizers, options)
			return namespace, nil
		}),
		dryrun.IsDryRun(options.DryRun), nil)
	if err != nil {
		err = storeerr.InterpretUpdateError(err, n.resource.kind.groupResource(), name)
		if _, ok := err.(apierrors.APIStatus); !ok {
			err = apierrors.NewInternalError(err)
		}
		return nil, err
	}
	return out, nil
}

// collectionFinalizers sets the finalizers by which the garbage collector is told
// what to do with dependents, as the options say, or leaves them when they do not.
func collectionFinalizers(finalizers []string, options *metav1.DeleteOptions) []string {
	var wanted string
	switch {
	case options.PropagationPolicy == nil && options.OrphanDependents == nil: // clients of old still send it
		return finalizers
	case options.PropagationPolicy == nil && *options.OrphanDependents,
		options.PropagationPolicy != nil && *options.PropagationPolicy == metav1.DeletePropagationOrphan:
		wanted = metav1.FinalizerOrphanDependents
	case options.PropagationPolicy != nil && *options.PropagationPolicy == metav1.DeletePropagationForeground:
		wanted = metav1.FinalizerDeleteDependents
	}
	finalizers = slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	if wanted != "" {
		finalizers = append(finalizers, wanted)
	}
	return finalizers
}

// finalizeStrategy lets an update change spec.finalizers and nothing else.
type finalizeStrategy struct{ strategy }

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (finalizeStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	obj.(*corev1.Namespace).Status = old.(*corev1.Namespace).Status
}

// finalize is the finalize subresource.
type finalize struct{ store *registry.Store }

func (n namespaces) finalize() finalize {
	shared := *n.resource.Store
	shared.UpdateStrategy = finalizeStrategy{n.resource.Store.UpdateStrategy.(strategy)}
	return finalize{&shared}
}

// New implements rest.Storage.
func (f finalize) New() runtime.Object { return f.store.NewFunc() }

// Destroy implements rest.Storage.
func (f finalize) Destroy() {}

// Update implements rest.Updater; it never creates.
func (f finalize) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return f.store.Update(ctx, name, info, create, update, false, options)
}
