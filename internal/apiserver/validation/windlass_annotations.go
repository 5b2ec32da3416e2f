package validation

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"windlass.dev/windlass/api/v1alpha1"
)

// The rules for our annotations that users write: a value that would be
// taken for the default in silence is refused.

var failurePolicies = []v1alpha1.FailurePolicy{v1alpha1.OnFailureKeep, v1alpha1.OnFailurePause, v1alpha1.OnFailureRollback}

// failurePolicy checks what is to happen to a rollout that fails. A value that
// was stored before is left alone: it must not keep anything else from changing.
// old is nil at creation.
func failurePolicy(meta, old *metav1.ObjectMeta) field.ErrorList {
	value, is := meta.Annotations[v1alpha1.AnnotationOnFailure]
	if !is {
		return nil
	}
	if old != nil {
		if before, was := old.Annotations[v1alpha1.AnnotationOnFailure]; was && before == value {
			return nil
		}
	}
	return choice(metadataPath.Child("annotations").Key(v1alpha1.AnnotationOnFailure), v1alpha1.FailurePolicy(value), failurePolicies...)
}

// lifeAnnotations checks when pods are ready and how they are to be drained.
func lifeAnnotations(fld *field.Path, annotations map[string]string) field.ErrorList {
	var errs field.ErrorList
	if drain, is := annotations[v1alpha1.AnnotationDrain]; is {
		errs = append(errs, choice(fld.Key(v1alpha1.AnnotationDrain), drain, v1alpha1.DrainOn, v1alpha1.DrainConnections, v1alpha1.DrainOff)...)
	}
	if timeout, is := annotations[v1alpha1.AnnotationDrainTimeout]; is {
		if bound, err := time.ParseDuration(timeout); err != nil || bound < 0 {
			errs = append(errs, field.Invalid(fld.Key(v1alpha1.AnnotationDrainTimeout), timeout, `must be a duration of zero or more with its unit, such as "25s" or "1m30s"`))
		}
	}
	if when, is := annotations[v1alpha1.AnnotationReadyWhen]; is {
		errs = append(errs, choice(fld.Key(v1alpha1.AnnotationReadyWhen), when, v1alpha1.ReadyWhenListening, v1alpha1.ReadyWhenStarted)...)
	}
	return errs
}
