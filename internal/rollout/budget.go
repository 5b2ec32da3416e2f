package rollout

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// Budget is what a Deployment's strategy allows, in pods.
type Budget struct {
	Replicas    int32 // wanted
	Surge       int32 // allowed above Replicas
	Unavailable int32 // allowed to be missing from Replicas
}

// BudgetOf returns the budget of a Deployment: percentages of the replicas,
// surge rounded up and unavailable rounded down. When both come out as zero
// nothing could ever move, so one pod may be unavailable. Recreate has neither.
// A value that is neither a number nor a percentage, which the API refuses,
// counts as zero.
func BudgetOf(deployment *appsv1.Deployment) Budget {
	b := Budget{Replicas: ptr.Deref(deployment.Spec.Replicas, 1)}
	rolling := deployment.Spec.Strategy.RollingUpdate
	if deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || b.Replicas == 0 {
		return b
	}
	if rolling != nil {
		b.Surge = scaled(rolling.MaxSurge, b.Replicas, true)
		b.Unavailable = scaled(rolling.MaxUnavailable, b.Replicas, false)
	}
	if b.Surge == 0 && b.Unavailable == 0 {
		b.Unavailable = 1
	}
	b.Unavailable = min(b.Unavailable, b.Replicas)
	return b
}

// MaxTotal is how many pods there may be in all.
func (b Budget) MaxTotal() int32 { return b.Replicas + b.Surge }

// MinAvailable is how many pods must be available.
func (b Budget) MinAvailable() int32 { return b.Replicas - b.Unavailable }

func scaled(value *intstr.IntOrString, of int32, roundUp bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(ptr.To(ptr.Deref(value, intstr.FromInt32(0))), int(of), roundUp)
	if err != nil {
		return 0
	}
	return int32(max(n, 0))
}
