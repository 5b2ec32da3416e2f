package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	"windlass.dev/windlass/internal/apiserver/validation"
)

// podResize returns the subresource of pods through which the CPU and memory of
// containers that run are changed. It serves whole pods, as the status subresource does.
func podResize(pods resource) status {
	shared := *pods.Store
	shared.UpdateStrategy = resizeStrategy{pods.Store.UpdateStrategy.(strategy)}
	shared.ResetFieldsStrategy = shared.UpdateStrategy.(rest.ResetFieldsStrategy)
	return status{store: &shared}
}

// resizeStrategy is how the resources of containers are written, and what is to be
// done when they change: everything else of the pod stays as it is.
type resizeStrategy struct{ strategy }

// PrepareForUpdate implements rest.RESTUpdateStrategy. Containers stay in the order in
// which they were sent, for the validation to see what was meant.
func (resizeStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	pod, kept := obj.(*corev1.Pod), old.(*corev1.Pod).DeepCopy()
	kept.Spec.Containers = resized(pod.Spec.Containers, kept.Spec.Containers)
	kept.Spec.InitContainers = resized(pod.Spec.InitContainers, kept.Spec.InitContainers)
	kept.ResourceVersion, kept.ManagedFields = pod.ResourceVersion, pod.ManagedFields
	*pod = *kept
	if !sameSpec(pod, old) {
		pod.Generation++
	}
}

// resized returns the containers of old with the resources that those of the same
// name in list have; one that old does not have stays as it is.
func resized(list, old []corev1.Container) []corev1.Container {
	byName := map[string]corev1.Container{}
	for _, c := range old {
		byName[c.Name] = c
	}
	var out []corev1.Container
	for _, c := range list {
		if kept, ok := byName[c.Name]; ok {
			kept.Resources, kept.ResizePolicy = c.Resources, c.ResizePolicy
			c = kept
		}
		out = append(out, c)
	}
	return out
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (resizeStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePodResize(obj.(*corev1.Pod), old.(*corev1.Pod))
}

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (resizeStrategy) AllowCreateOnUpdate(context.Context) bool { return false }

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (resizeStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}
