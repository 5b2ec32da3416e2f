package validation

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// statefulSetCreate requires a name that can begin its pods' names, which are
// host names.
func statefulSetCreate(s *appsv1.StatefulSet) field.ErrorList {
	errs := append(namespaced(&s.ObjectMeta, labelName), failurePolicy(&s.ObjectMeta, nil)...)
	errs = append(errs, statefulSetRules(&s.Spec)...)
	if name := s.Spec.ServiceName; name != "" {
		errs = append(errs, invalidFor(specPath.Child("serviceName"), name, validation.IsDNS1123Label(name))...)
	}
	return append(errs, claimTemplates(&s.Spec)...)
}

// statefulSetUpdate lets those fields change that say how many pods there are,
// what they are made from and how they get there.
func statefulSetUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	errs := metadataUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, failurePolicy(&s.ObjectMeta, &old.ObjectMeta)...)
	errs = append(errs, statefulSetRules(&s.Spec)...)
	fixed := *s.Spec.DeepCopy()
	fixed.Replicas = old.Spec.Replicas
	fixed.Ordinals = old.Spec.Ordinals
	fixed.Template = old.Spec.Template
	fixed.UpdateStrategy = old.Spec.UpdateStrategy
	fixed.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	fixed.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	fixed.MinReadySeconds = old.Spec.MinReadySeconds
	if !equality.Semantic.DeepEqual(fixed, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "+
			"'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

func statefulSetRules(spec *appsv1.StatefulSetSpec) field.ErrorList {
	errs := podManagement(spec.PodManagementPolicy)
	errs = append(errs, statefulSetStrategy(&spec.UpdateStrategy)...)
	errs = append(errs, claimRetention(spec.PersistentVolumeClaimRetentionPolicy)...)
	errs = append(errs, optionalNonNegative(specPath.Child("replicas"), spec.Replicas)...)
	errs = append(errs, nonNegative(specPath.Child("minReadySeconds"), spec.MinReadySeconds)...)
	errs = append(errs, optionalNonNegative(specPath.Child("revisionHistoryLimit"), spec.RevisionHistoryLimit)...)
	if spec.Ordinals != nil {
		errs = append(errs, nonNegative(specPath.Child("ordinals", "start"), spec.Ordinals.Start)...)
	}
	selector, faults := workloadSelector("statefulset", specPath.Child("selector"), spec.Selector)
	errs = append(errs, faults...)
	mounted := spec.Template.DeepCopy()
	mountClaims(&mounted.Spec, spec.VolumeClaimTemplates)
	return append(errs, replicatedTemplate("StatefulSet", mounted, selector)...)
}

func podManagement(policy appsv1.PodManagementPolicyType) field.ErrorList {
	fld := specPath.Child("podManagementPolicy")
	switch policy {
	case "":
		return field.ErrorList{field.Required(fld, "")}
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
		return nil
	}
	return field.ErrorList{field.Invalid(fld, policy, fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement))}
}

func statefulSetStrategy(strategy *appsv1.StatefulSetUpdateStrategy) field.ErrorList {
	fld := specPath.Child("updateStrategy")
	rolling := fld.Child("rollingUpdate")
	switch strategy.Type {
	case "":
		return field.ErrorList{field.Required(fld, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if strategy.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(rolling, strategy.RollingUpdate,
				fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if strategy.RollingUpdate != nil {
			errs := optionalNonNegative(rolling.Child("partition"), strategy.RollingUpdate.Partition)
			return append(errs, rolledAtOnce(rolling.Child("maxUnavailable"), strategy.RollingUpdate.MaxUnavailable)...)
		}
	default:
		return field.ErrorList{field.Invalid(fld, strategy, fmt.Sprintf("must be '%s' or '%s'",
			appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
	}
	return nil
}

// rolledAtOnce requires, where it is said, at least one pod and at most all.
func rolledAtOnce(fld *field.Path, value *intstr.IntOrString) field.ErrorList {
	if value == nil {
		return nil
	}
	errs := countOrPercent(fld, value)
	if len(errs) == 0 && isNone(value) {
		errs = append(errs, field.Invalid(fld, value, "cannot be 0"))
	}
	if percent, is := percentOf(value); is && percent > 100 {
		errs = append(errs, field.Invalid(fld, value, "must not be greater than 100%"))
	}
	return errs
}

var retentionPolicies = []appsv1.PersistentVolumeClaimRetentionPolicyType{
	appsv1.DeletePersistentVolumeClaimRetentionPolicyType, appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
}

func claimRetention(policy *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy) field.ErrorList {
	if policy == nil {
		return nil
	}
	fld := specPath.Child("persistentVolumeClaimRetentionPolicy")
	errs := choice(fld.Child("whenDeleted"), policy.WhenDeleted, retentionPolicies...)
	return append(errs, choice(fld.Child("whenScaled"), policy.WhenScaled, retentionPolicies...)...)
}

func statefulSetStatusUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	errs := metadataUpdate(&s.ObjectMeta, &old.ObjectMeta)
	status := &s.Status
	errs = append(errs, nonNegative(statusPath.Child("observedGeneration"), status.ObservedGeneration)...)
	errs = append(errs, replicaCounts(status.Replicas, status.ReadyReplicas, status.AvailableReplicas,
		replicaCount{"currentReplicas", status.CurrentReplicas}, replicaCount{"updatedReplicas", status.UpdatedReplicas})...)
	return append(errs, collisionCount(status.CollisionCount, old.Status.CollisionCount)...)
}

// collisionCount requires a counter that never goes down.
func collisionCount(count, was *int32) field.ErrorList {
	fld := statusPath.Child("collisionCount")
	errs := optionalNonNegative(fld, count)
	if was != nil && (count == nil || *count < *was) {
		errs = append(errs, field.Invalid(fld, count, "cannot be decremented"))
	}
	return errs
}
