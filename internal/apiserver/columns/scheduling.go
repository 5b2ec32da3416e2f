package columns

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var (
	budgetDocs = policyv1.PodDisruptionBudgetSpec{}.SwaggerDoc()
	classesDoc = schedulingv1.PriorityClass{}.SwaggerDoc()

	disruptionBudgets = tableOf(budgetCells,
		nameColumn,
		text("Min Available", budgetDocs["minAvailable"]),
		text("Max Unavailable", budgetDocs["maxUnavailable"]),
		number("Allowed Disruptions", policyv1.PodDisruptionBudgetStatus{}.SwaggerDoc()["disruptionsAllowed"]),
		ageColumn)

	priorityClasses = tableOf(priorityCells,
		nameColumn,
		number("Value", classesDoc["value"]),
		metav1.TableColumnDefinition{Name: "Global-Default", Type: "boolean", Description: classesDoc["globalDefault"]},
		ageColumn,
		text("PreemptionPolicy", classesDoc["preemptionPolicy"]))
)

func budgetCells(b *policyv1.PodDisruptionBudget, now time.Time) []any {
	bound := func(value *intstr.IntOrString) string {
		if value == nil {
			return "N/A"
		}
		return value.String()
	}
	return []any{b.Name, bound(b.Spec.MinAvailable), bound(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed), age(&b.ObjectMeta, now)}
}

func priorityCells(c *schedulingv1.PriorityClass, now time.Time) []any {
	policy := ""
	if c.PreemptionPolicy != nil {
		policy = string(*c.PreemptionPolicy)
	}
	return []any{c.Name, int64(c.Value), c.GlobalDefault, age(&c.ObjectMeta, now), policy}
}
