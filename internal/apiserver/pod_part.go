package apiserver

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"windlass.dev/windlass/internal/apiserver/validation"
)

// ephemeralContainers returns the subresource of pods through which containers are
// added to a pod that runs.
func ephemeralContainers(pods resource) status {
	return partOf(pods, podPart{
		take:  func(kept, sent *corev1.Pod) { kept.Spec.EphemeralContainers = sent.Spec.EphemeralContainers },
		check: validation.ValidatePodEphemeralContainersUpdate,
	})
}

// podResize returns the subresource of pods through which the CPU and memory of
// containers that run are changed, and what is to be done when they change.
// Containers stay in the order in which they were sent, for the validation to see
// what was meant.
func podResize(pods resource) status {
	return partOf(pods, podPart{
		take: func(kept, sent *corev1.Pod) {
			kept.Spec.Containers = resized(sent.Spec.Containers, kept.Spec.Containers)
			kept.Spec.InitContainers = resized(sent.Spec.InitContainers, kept.Spec.InitContainers)
		},
		check: validation.ValidatePodResize,
	})
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

// podPart is a part of a pod that is written by a subresource of its own, and how:
// everything else of the pod stays as it is.
type podPart struct {
	strategy
	take  func(kept, sent *corev1.Pod) // sets the part of what is kept to what was sent
	check func(pod, old *corev1.Pod) field.ErrorList
}

// partOf returns the subresource of pods by which a part of them is written. It
// serves whole pods, as the status subresource does.
func partOf(pods resource, part podPart) status {
	shared := *pods.Store
	part.strategy = pods.Store.UpdateStrategy.(strategy)
	shared.UpdateStrategy, shared.ResetFieldsStrategy = part, part
	return status{store: &shared}
}

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (p podPart) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	pod, kept := obj.(*corev1.Pod), old.(*corev1.Pod).DeepCopy()
	p.take(kept, pod)
	kept.ResourceVersion, kept.ManagedFields = pod.ResourceVersion, pod.ManagedFields
	*pod = *kept
	if !sameSpec(pod, old) {
		pod.Generation++
	}
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (p podPart) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return p.check(obj.(*corev1.Pod), old.(*corev1.Pod))
}

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (podPart) AllowCreateOnUpdate(context.Context) bool { return false }

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (podPart) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}
