package validation

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// updatable names the fields of a pod that may change once it exists, as Kubernetes words it.
const updatable = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// maxDiffed is the size in bytes of the longest object whose changes are shown: to find them
// takes a time that grows with the square of it.
const maxDiffed = 64 << 10

// changes shows in which lines now differs from old, if neither is too long for that.
func changes[T interface{ Size() int }](old, now T) string {
	if max(old.Size(), now.Size()) > maxDiffed {
		return "(too long to show what changed)"
	}
	return diff.Diff(old, now)
}

// ValidatePodUpdate returns the faults of pod as the replacement of old. Little of a pod can
// change: its images, a shorter deadline, more tolerations, fewer scheduling gates, and while
// there are gates, a narrower choice of nodes. Its node changes through the binding subresource
// only, and its ephemeral containers through theirs.
func ValidatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	meta, spec := field.NewPath("metadata"), field.NewPath("spec")
	errs := apivalidation.ValidateObjectMetaUpdate(&pod.ObjectMeta, &old.ObjectMeta, meta)
	errs = append(errs, wholePod(pod)...)
	errs = append(errs, podAnnotationsUpdate(meta.Child("annotations"), pod.Annotations, old.Annotations)...)

	count := sameCount(spec.Child("containers"), pod.Spec.Containers, old.Spec.Containers)
	count = append(count, sameCount(spec.Child("initContainers"), pod.Spec.InitContainers, old.Spec.InitContainers)...)
	if len(count) > 0 {
		return append(errs, count...)
	}
	errs = append(errs, deadlineUpdate(spec.Child("activeDeadlineSeconds"), pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds)...)
	errs = append(errs, tolerationsUpdate(spec.Child("tolerations"), pod.Spec.Tolerations, old.Spec.Tolerations)...)
	errs = append(errs, gatesUpdate(spec.Child("schedulingGates"), pod.Spec.SchedulingGates, old.Spec.SchedulingGates)...)

	rest := pod.Spec.DeepCopy()
	restoreUpdatable(rest, &old.Spec)
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, gatedUpdate(spec, rest, &old.Spec)...)
	}
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(spec, fmt.Sprintf("pod updates may not change fields other than %s\n%s", updatable, changes(&old.Spec, rest))))
	}
	return errs
}

func sameCount(fld *field.Path, containers, old []corev1.Container) field.ErrorList {
	if len(containers) == len(old) {
		return nil
	}
	return field.ErrorList{field.Forbidden(fld, "pod updates may not add or remove containers")}
}

// restoreUpdatable gives those fields of spec that may change the values they had in old,
// so that only what may not change is left to differ. Both have the same number of containers.
func restoreUpdatable(spec, old *corev1.PodSpec) {
	for i := range spec.Containers {
		spec.Containers[i].Image = old.Containers[i].Image
	}
	for i := range spec.InitContainers {
		spec.InitContainers[i].Image = old.InitContainers[i].Image
	}
	spec.ActiveDeadlineSeconds = old.ActiveDeadlineSeconds
	spec.Tolerations = old.Tolerations
	spec.SchedulingGates = old.SchedulingGates
	grace, oldGrace := spec.TerminationGracePeriodSeconds, old.TerminationGracePeriodSeconds
	if oldGrace != nil && *oldGrace < 0 && grace != nil && *grace == 1 {
		spec.TerminationGracePeriodSeconds = oldGrace
	}
}

// deadlineUpdate refuses a later deadline, and to take one away.
func deadlineUpdate(fld *field.Path, deadline, old *int64) field.ErrorList {
	switch {
	case old == nil:
		return nil
	case deadline == nil:
		return field.ErrorList{field.Invalid(fld, deadline, "must not update from a positive integer to nil value")}
	case *deadline > *old:
		return field.ErrorList{field.Invalid(fld, *deadline, "must be less than or equal to previous value")}
	}
	return nil
}

// tolerationsUpdate refuses to take away or change a toleration, but for its seconds.
func tolerationsUpdate(fld *field.Path, list, old []corev1.Toleration) field.ErrorList {
	kept := sets.New[corev1.Toleration]()
	for _, t := range list {
		t.TolerationSeconds = nil
		kept.Insert(t)
	}
	for _, t := range old {
		t.TolerationSeconds = nil
		if !kept.Has(t) {
			return field.ErrorList{field.Forbidden(fld, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

// gatesUpdate refuses new scheduling gates.
func gatesUpdate(fld *field.Path, gates, old []corev1.PodSchedulingGate) field.ErrorList {
	var errs field.ErrorList
	known := sets.New(old...)
	for i, gate := range gates {
		if !known.Has(gate) {
			errs = append(errs, field.Forbidden(fld.Index(i), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	return errs
}

// ValidatePodEphemeralContainersUpdate returns the faults of pod as the replacement of old
// through the ephemeralcontainers subresource: containers may be added, and those that are
// there must stay as they are.
func ValidatePodEphemeralContainersUpdate(pod, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := ephemeralContainers(spec, factsOf(&pod.Spec, pod.Name, true))
	fld := spec.Child("ephemeralContainers")
	for _, before := range old.Spec.EphemeralContainers {
		i := slices.IndexFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == before.Name })
		switch {
		case i < 0:
			errs = append(errs, field.Forbidden(fld, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", before.Name)))
		case !equality.Semantic.DeepEqual(before, pod.Spec.EphemeralContainers[i]):
			errs = append(errs, field.Forbidden(fld.Index(i), fmt.Sprintf("existing ephemeral containers %q may not be changed\n%s",
				before.Name, changes(&before, &pod.Spec.EphemeralContainers[i]))))
		}
	}
	return errs
}
