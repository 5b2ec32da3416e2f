package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// highestPriority is the highest that users may give; above it are the system's.
const highestPriority = 1_000_000_000

// SystemPriorities are the priority classes that every cluster has.
var SystemPriorities = map[string]int32{
	"system-cluster-critical": 2 * highestPriority,
	"system-node-critical":    2*highestPriority + 1000,
}

func priorityClassCreate(c *schedulingv1.PriorityClass) field.ErrorList {
	errs := clusterWide(&c.ObjectMeta, subdomainName)
	value, system := SystemPriorities[c.Name]
	switch {
	case system && (c.Value != value || c.GlobalDefault):
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), "priority class names with 'system-' prefix are reserved for system use only"))
	case !system && strings.HasPrefix(c.Name, "system-"):
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), "priority class names with 'system-' prefix are reserved for system use only"))
	case !system && c.Value > highestPriority:
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %d", highestPriority)))
	}
	return append(errs, optionalChoice(field.NewPath("preemptionPolicy"), c.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)...)
}

// priorityClassUpdate returns the faults of a class as the replacement of old: what
// pods have taken from it does not change.
func priorityClassUpdate(c, old *schedulingv1.PriorityClass) field.ErrorList {
	errs := metadataUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if c.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(errs, immutable(field.NewPath("preemptionPolicy"), c.PreemptionPolicy, old.PreemptionPolicy)...)
}
