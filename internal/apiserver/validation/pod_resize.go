package validation

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/util/qos"

	"windlass.dev/windlass/internal/condition"
)

// ValidatePodResize returns the faults of pod as the replacement of old through the resize
// subresource, by the rules of
// https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/#limitations.
// Only CPU and memory of containers and sidecars can change; no request or limit can be taken
// away, and the pod keeps its class.
func ValidatePodResize(pod, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := apivalidation.ValidateObjectMetaUpdate(&pod.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	errs = append(errs, wholePod(pod)...)
	switch {
	case resourcehelper.IsPodLevelResourcesSet(old):
		return append(errs, field.Forbidden(spec.Child("resources"), "pods with pod-level resources cannot be resized"))
	case old.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return append(errs, field.Forbidden(field.NewPath("metadata", "annotations"), "static pods cannot be resized"))
	case old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows:
		return append(errs, field.Forbidden(spec.Child("os"), "windows pods cannot be resized"))
	case condition.Ended(old.Status.Phase):
		return append(errs, field.Forbidden(spec, "a pod that has ended cannot be resized"))
	}
	order := sameContainers(spec, "containers", pod.Spec.Containers, old.Spec.Containers)
	order = append(order, sameContainers(spec, "initContainers", pod.Spec.InitContainers, old.Spec.InitContainers)...)
	if len(order) > 0 {
		return append(errs, order...)
	}
	if was, is := qos.GetPodQOS(&corev1.Pod{Spec: old.Spec}), qos.GetPodQOS(&corev1.Pod{Spec: pod.Spec}); was != is {
		errs = append(errs, field.Invalid(spec, is, "Pod QOS Class may not change as a result of resizing"))
	}
	rest := pod.Spec.DeepCopy()
	for i := range rest.Containers {
		errs = append(errs, nothingRemoved(spec.Child("containers").Index(i), &rest.Containers[i], &old.Spec.Containers[i])...)
		restoreSize(&rest.Containers[i], &old.Spec.Containers[i])
	}
	for i := range rest.InitContainers {
		before := &old.Spec.InitContainers[i]
		if !isSidecar(before) {
			continue // it cannot be resized
		}
		errs = append(errs, nothingRemoved(spec.Child("initContainers").Index(i), &rest.InitContainers[i], before)...)
		restoreSize(&rest.InitContainers[i], before)
	}
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(spec, "only cpu and memory resources are mutable\n"+changes(&old.Spec, rest)))
	}
	return errs
}

// sameContainers refuses other containers than those of old, in their order.
func sameContainers(spec *field.Path, list string, containers, old []corev1.Container) field.ErrorList {
	if len(containers) != len(old) {
		return field.ErrorList{field.Forbidden(spec.Child(list), "containers may not be added or removed on resize")}
	}
	for i := range containers {
		if containers[i].Name != old[i].Name {
			return field.ErrorList{field.Forbidden(spec.Child(list).Index(i), "containers may not be renamed or reordered on resize")}
		}
	}
	return nil
}

// nothingRemoved refuses to take a request or a limit away.
func nothingRemoved(fld *field.Path, c, old *corev1.Container) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct {
		name        string
		list, older corev1.ResourceList
	}{{"requests", c.Resources.Requests, old.Resources.Requests}, {"limits", c.Resources.Limits, old.Resources.Limits}} {
		for name := range part.older {
			if _, ok := part.list[name]; !ok {
				errs = append(errs, field.Forbidden(fld.Child("resources", part.name), fmt.Sprintf("resource %s cannot be removed", part.name)))
				break
			}
		}
	}
	return errs
}

// restoreSize gives c what may change of old, so that only what may not is left to differ.
func restoreSize(c, old *corev1.Container) {
	restore := func(list, older corev1.ResourceList) corev1.ResourceList {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			delete(list, name)
			if quantity, ok := older[name]; ok {
				if list == nil {
					list = corev1.ResourceList{}
				}
				list[name] = quantity
			}
		}
		return list
	}
	c.Resources.Requests = restore(c.Resources.Requests, old.Resources.Requests)
	c.Resources.Limits = restore(c.Resources.Limits, old.Resources.Limits)
	c.ResizePolicy = old.ResizePolicy
}
