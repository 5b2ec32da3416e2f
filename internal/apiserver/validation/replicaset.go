package validation

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func replicaSetCreate(r *appsv1.ReplicaSet) field.ErrorList {
	return append(namespaced(&r.ObjectMeta, subdomainName), replicaSetRules(&r.Spec)...)
}

func replicaSetUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	errs := metadataUpdate(&r.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, replicaSetRules(&r.Spec)...)
	return append(errs, immutable(specPath.Child("selector"), r.Spec.Selector, old.Spec.Selector)...)
}

func replicaSetRules(spec *appsv1.ReplicaSetSpec) field.ErrorList {
	errs := optionalNonNegative(specPath.Child("replicas"), spec.Replicas)
	errs = append(errs, nonNegative(specPath.Child("minReadySeconds"), spec.MinReadySeconds)...)
	selector, faults := workloadSelector("deployment", specPath.Child("selector"), spec.Selector)
	errs = append(errs, faults...)
	return append(errs, replicatedTemplate("ReplicaSet", &spec.Template, selector)...)
}

func replicaSetStatusUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	errs := metadataUpdate(&r.ObjectMeta, &old.ObjectMeta)
	status := &r.Status
	errs = append(errs, nonNegative(statusPath.Child("observedGeneration"), status.ObservedGeneration)...)
	errs = append(errs, optionalNonNegative(statusPath.Child("terminatingReplicas"), status.TerminatingReplicas)...)
	return append(errs, replicaCounts(status.Replicas, status.ReadyReplicas, status.AvailableReplicas,
		replicaCount{"fullyLabeledReplicas", status.FullyLabeledReplicas})...)
}
