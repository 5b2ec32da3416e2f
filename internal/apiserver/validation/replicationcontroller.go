package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func replicationControllerCreate(c *corev1.ReplicationController) field.ErrorList {
	return append(namespaced(&c.ObjectMeta, subdomainName), replicationControllerRules(&c.Spec)...)
}

// replicationControllerUpdate lets the selector change, as it always could.
func replicationControllerUpdate(c, old *corev1.ReplicationController) field.ErrorList {
	return append(metadataUpdate(&c.ObjectMeta, &old.ObjectMeta), replicationControllerRules(&c.Spec)...)
}

func replicationControllerRules(spec *corev1.ReplicationControllerSpec) field.ErrorList {
	errs := nonNegative(specPath.Child("minReadySeconds"), spec.MinReadySeconds)
	if len(spec.Selector) == 0 {
		errs = append(errs, field.Required(specPath.Child("selector"), ""))
	}
	if spec.Replicas == nil {
		errs = append(errs, field.Required(specPath.Child("replicas"), ""))
	}
	errs = append(errs, optionalNonNegative(specPath.Child("replicas"), spec.Replicas)...)
	if spec.Template == nil {
		return append(errs, field.Required(specPath.Child("template"), ""))
	}
	return append(errs, replicatedTemplate("ReplicationController", spec.Template, labels.SelectorFromSet(spec.Selector))...)
}

func replicationControllerStatusUpdate(c, old *corev1.ReplicationController) field.ErrorList {
	errs := metadataUpdate(&c.ObjectMeta, &old.ObjectMeta)
	status := &c.Status
	errs = append(errs, nonNegative(statusPath.Child("observedGeneration"), status.ObservedGeneration)...)
	return append(errs, replicaCounts(status.Replicas, status.ReadyReplicas, status.AvailableReplicas,
		replicaCount{"fullyLabeledReplicas", status.FullyLabeledReplicas})...)
}
