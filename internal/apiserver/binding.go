package apiserver

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"

	"windlass.dev/windlass/internal/apiserver/validation"
	"windlass.dev/windlass/internal/condition"
)

// binding is the binding subresource of pods: it gives a pod its node, once.
type binding struct{ pods *registry.Store }

var _ rest.NamedCreater = binding{}

// NamespaceScoped implements rest.Scoper.
func (binding) NamespaceScoped() bool { return true }

// New implements rest.Storage.
func (binding) New() runtime.Object { return &corev1.Binding{} }

// Destroy implements rest.Storage.
func (binding) Destroy() {}

// Create implements rest.NamedCreater.
func (b binding) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	bound, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Binding object: %#v", obj))
	}
	if bound.Name != name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if faults := validation.Create(bound); len(faults) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, name, faults)
	}
	if validate != nil {
		if err := validate(ctx, bound.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := b.assign(ctx, bound, dryrun.IsDryRun(options.DryRun)); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, nil
}

// assign sets the node and the condition PodScheduled, or refuses with a conflict.
func (b binding) assign(ctx context.Context, bound *corev1.Binding, dry bool) error {
	key, err := b.pods.KeyFunc(ctx, bound.Name)
	if err != nil {
		return err
	}
	var preconditions *storage.Preconditions
	if bound.UID != "" || bound.ResourceVersion != "" {
		preconditions = &storage.Preconditions{}
		if bound.UID != "" {
			preconditions.UID = &bound.UID
		}
		if bound.ResourceVersion != "" {
			preconditions.ResourceVersion = &bound.ResourceVersion
		}
	}
	err = b.pods.Storage.GuaranteedUpdate(ctx, key, &corev1.Pod{}, false, preconditions,
		storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
			pod := obj.(*corev1.Pod)
			switch {
			case pod.DeletionTimestamp != nil:
				return nil, fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name)
			case pod.Spec.NodeName != "":
				return nil, fmt.Errorf("pod %s is already assigned to node %q", pod.Name, pod.Spec.NodeName)
			case len(pod.Spec.SchedulingGates) > 0:
				return nil, fmt.Errorf("pod %s has non-empty .spec.schedulingGates", pod.Name)
			}
			pod.Spec.NodeName = bound.Target.Name
			pod.Generation++
			for name, value := range bound.Annotations {
				metav1.SetMetaDataAnnotation(&pod.ObjectMeta, name, value)
			}
			condition.Set(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
			return pod, nil
		}), dry, nil)
	if err == nil {
		return nil
	}
	err = storeerr.InterpretGetError(err, corev1.Resource("pods"), bound.Name)
	err = storeerr.InterpretUpdateError(err, corev1.Resource("pods"), bound.Name)
	if status := (*apierrors.StatusError)(nil); !errors.As(err, &status) {
		err = apierrors.NewConflict(corev1.Resource("pods/binding"), bound.Name, err)
	}
	return err
}

// legacyBinding is the resource bindings, the old way to post a Binding.
type legacyBinding struct{ binding }

var _ rest.Creater = legacyBinding{}

// GetSingularName implements rest.SingularNameProvider.
func (legacyBinding) GetSingularName() string { return "binding" }

// Create implements rest.Creater.
func (b legacyBinding) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	return b.binding.Create(ctx, metaOf(obj).GetName(), obj, validate, options)
}
