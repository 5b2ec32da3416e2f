package disruption

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"windlass.dev/windlass/internal/condition"
)

// patience is how long a pod whose eviction was granted counts as gone while it
// is not being deleted.
const patience = 2 * time.Minute

// counted is a controller of pods: how many it wants.
type counted struct {
	Name string
	Pods int32
	Err  error // why that is not known
}

// plan returns the status of a budget, and when to look again though nothing
// happens; zero is never. pods are those that the budget selects, and
// controllers says for each of them who controls it, nil for none.
func plan(budget *policyv1.PodDisruptionBudget, pods []*corev1.Pod, controllers []*counted, now time.Time) (policyv1.PodDisruptionBudgetStatus, time.Time) {
	status := policyv1.PodDisruptionBudgetStatus{
		ObservedGeneration: budget.Generation,
		Conditions:         slices.Clone(budget.Status.Conditions),
	}
	var wakeAt time.Time
	for _, pod := range pods {
		granted, asked := budget.Status.DisruptedPods[pod.Name]
		switch until := granted.Add(patience); {
		case !asked || pod.DeletionTimestamp != nil:
			continue
		case !now.Before(until): // the eviction came to nothing
			continue
		case wakeAt.IsZero() || until.Before(wakeAt):
			wakeAt = until
		}
		if status.DisruptedPods == nil {
			status.DisruptedPods = map[string]metav1.Time{}
		}
		status.DisruptedPods[pod.Name] = granted
	}
	expected, desired, err := wanted(&budget.Spec, pods, controllers)
	if err != nil {
		tell(&status, budget.Generation, metav1.ConditionFalse, policyv1.SyncFailedReason, err.Error(), now)
		return status, wakeAt
	}
	status.ExpectedPods, status.DesiredHealthy = expected, desired
	for _, pod := range pods {
		if _, going := status.DisruptedPods[pod.Name]; !going && pod.DeletionTimestamp == nil && condition.OfPod(pod, corev1.PodReady) {
			status.CurrentHealthy++
		}
	}
	if expected > 0 {
		status.DisruptionsAllowed = max(status.CurrentHealthy-desired, 0)
	}
	if status.DisruptionsAllowed > 0 {
		tell(&status, budget.Generation, metav1.ConditionTrue, policyv1.SufficientPodsReason, "", now)
	} else {
		tell(&status, budget.Generation, metav1.ConditionFalse, policyv1.InsufficientPodsReason, "", now)
	}
	return status, wakeAt
}

func tell(status *policyv1.PodDisruptionBudgetStatus, generation int64, value metav1.ConditionStatus, reason, message string, now time.Time) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: value, Reason: reason, Message: message,
		ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	})
}

// wanted returns how many pods there should be and how many have to be healthy.
// A number asks for no more than what is there; a share is of what the pods'
// controllers want.
func wanted(spec *policyv1.PodDisruptionBudgetSpec, pods []*corev1.Pod, controllers []*counted) (expected, desired int32, err error) {
	switch {
	case spec.MaxUnavailable != nil:
		if expected, err = total(pods, controllers); err != nil {
			return 0, 0, err
		}
		away, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(expected), true)
		if err != nil {
			return 0, 0, fmt.Errorf("maxUnavailable: %w", err)
		}
		return expected, max(expected-int32(away), 0), nil
	case spec.MinAvailable == nil:
		return int32(len(pods)), 0, nil
	case spec.MinAvailable.Type == intstr.Int:
		return int32(len(pods)), spec.MinAvailable.IntVal, nil
	}
	if expected, err = total(pods, controllers); err != nil {
		return 0, 0, err
	}
	there, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(expected), true)
	if err != nil {
		return 0, 0, fmt.Errorf("minAvailable: %w", err)
	}
	return expected, int32(there), nil
}

// total is how many pods the controllers of the pods want together.
func total(pods []*corev1.Pod, controllers []*counted) (sum int32, err error) {
	seen := map[string]bool{}
	for i, c := range controllers {
		switch {
		case c == nil:
			return 0, fmt.Errorf("found no controllers for pod %q", pods[i].Name)
		case c.Err != nil:
			return 0, fmt.Errorf("controller of pod %q: %w", pods[i].Name, c.Err)
		case !seen[c.Name]:
			seen[c.Name] = true
			sum += c.Pods
		}
	}
	return sum, nil
}

// errUnknownController: nobody can say how many pods it wants.
var errUnknownController = errors.New("it does not say how many pods it wants: use minAvailable with a number")
