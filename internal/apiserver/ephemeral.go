package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	"windlass.dev/windlass/internal/apiserver/validation"
)

// ephemeralContainers returns the subresource of pods through which containers are
// added to a pod that runs. It serves whole pods, as the status subresource does.
func ephemeralContainers(pods resource) status {
	shared := *pods.Store
	shared.UpdateStrategy = ephemeralStrategy{pods.Store.UpdateStrategy.(strategy)}
	shared.ResetFieldsStrategy = shared.UpdateStrategy.(rest.ResetFieldsStrategy)
	return status{store: &shared}
}

// ephemeralStrategy is how ephemeral containers are written: everything else of
// the pod stays as it is.
type ephemeralStrategy struct{ strategy }

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (ephemeralStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	pod, kept := obj.(*corev1.Pod), old.(*corev1.Pod).DeepCopy()
	kept.Spec.EphemeralContainers = pod.Spec.EphemeralContainers
	kept.ResourceVersion, kept.ManagedFields = pod.ResourceVersion, pod.ManagedFields
	*pod = *kept
	if !sameSpec(pod, old) {
		pod.Generation++
	}
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (ephemeralStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePodEphemeralContainersUpdate(obj.(*corev1.Pod), old.(*corev1.Pod))
}

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (ephemeralStrategy) AllowCreateOnUpdate(context.Context) bool { return false }

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (ephemeralStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}
