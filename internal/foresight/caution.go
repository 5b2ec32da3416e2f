package foresight

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// noDeadline is a progressDeadlineSeconds that means none.
const noDeadline = 1<<31 - 1

// cautions finds what should be known before a rollout, and a deadline that it
// must miss.
func cautions(facts *Facts, f *Foresight, forecast rollout.Forecast) (blocks, warnings []Finding) {
	warnings = append(warnings, readyMeansStarted(facts.After)...)
	if f.Kind != KindRollout && f.Kind != KindFirst {
		return nil, warnings
	}
	blocks, late := deadline(facts, f)
	warnings = append(warnings, late...)
	if f.Kind == KindRollout {
		warnings = append(warnings, downtime(facts, forecast)...)
		warnings = append(warnings, noUndo(facts)...)
		warnings = append(warnings, noDrain(facts)...)
	}
	return blocks, warnings
}

// readyMeansStarted finds pods of which nothing says when they can serve.
func readyMeansStarted(d *appsv1.Deployment) []Finding {
	spec := &d.Spec.Template.Spec
	tells := slices.ContainsFunc(spec.Containers, func(c corev1.Container) bool { return c.ReadinessProbe != nil || len(c.Ports) > 0 })
	if tells || len(spec.ReadinessGates) > 0 {
		return nil
	}
	return []Finding{{
		What:  "no container has a readinessProbe or a declared port: a pod counts as ready as soon as it is started",
		Field: "spec.template.spec.containers", Mend: "declare the port that it listens on, or add a readinessProbe",
	}}
}

// deadline finds a progressDeadlineSeconds that a wave takes longer than.
func deadline(facts *Facts, f *Foresight) (blocks, warnings []Finding) {
	seconds := ptr.Deref(facts.After.Spec.ProgressDeadlineSeconds, noDeadline)
	if seconds == noDeadline || f.Duration == nil || f.Duration.Start == nil {
		return nil, nil
	}
	if f.Duration.Start.Duration <= time.Duration(seconds)*time.Second {
		return nil, nil
	}
	late := Finding{
		What: fmt.Sprintf("a pod took %s to become available in earlier rollouts: longer than progressDeadlineSeconds, so the rollout is reported as failed",
			short(f.Duration.Start.Duration)),
		Field: "spec.progressDeadlineSeconds", Value: fmt.Sprint(seconds), Mend: "raise progressDeadlineSeconds",
	}
	if p := rollout.PolicyOf(facts.After, facts.OnFailure); p != v1alpha1.OnFailureKeep {
		late.What += fmt.Sprintf(", and %s: %s acts on it", v1alpha1.AnnotationOnFailure, p)
		return []Finding{late}, nil
	}
	return nil, []Finding{late}
}

// downtime finds that there is a time without an available pod.
func downtime(facts *Facts, forecast rollout.Forecast) []Finding {
	available := int32(0)
	for _, rs := range facts.controlled() {
		counts, _ := rollout.Count(podsByOwner(facts.Pods)[rs.UID], facts.After.Spec.MinReadySeconds, facts.Now)
		available += counts.Available
	}
	switch {
	case available == 0 || forecast.LeastAvailable > 0 || forecast.Budget.Replicas == 0:
		return nil
	case facts.Stateful != nil:
		return []Finding{{
			What:  "downtime: a pod is stopped before its successor is started, and there may be a time without an available pod",
			Field: "spec.replicas", Value: fmt.Sprint(forecast.Budget.Replicas), Mend: "have more pods than maxUnavailable",
		}}
	case isRecreate(facts.After):
		return []Finding{{
			What:  "downtime: no pod serves from the time that the old ones stop until the first new one is available",
			Field: "spec.strategy.type", Value: string(appsv1.RecreateDeploymentStrategyType),
			Mend: "use RollingUpdate, if two versions may run side by side",
		}}
	}
	return []Finding{{
		What:  "downtime: there may be a time without an available pod",
		Field: "spec.strategy.rollingUpdate.maxUnavailable", Value: fmt.Sprint(forecast.Budget.Unavailable),
		Mend: "set maxUnavailable 0 and maxSurge 1",
	}}
}

// noUndo finds that there would be nothing to go back to.
func noUndo(facts *Facts) []Finding {
	var found []Finding
	if limit := facts.After.Spec.RevisionHistoryLimit; limit != nil && *limit == 0 {
		found = append(found, Finding{
			What:  "no old revision is kept: once the rollout is complete it cannot be undone",
			Field: "spec.revisionHistoryLimit", Value: "0", Mend: "raise revisionHistoryLimit",
		})
	}
	if rollout.PolicyOf(facts.After, facts.OnFailure) != v1alpha1.OnFailureRollback {
		return found
	}
	complete := slices.ContainsFunc(facts.controlled(), func(rs *appsv1.ReplicaSet) bool {
		return rs.Annotations[v1alpha1.AnnotationCompleted] != "" && !rollout.SameTemplate(&rs.Spec.Template, &facts.After.Spec.Template)
	})
	if !complete {
		found = append(found, Finding{
			What:  fmt.Sprintf("%s is rollback, but no earlier revision was ever complete: there is none to go back to", v1alpha1.AnnotationOnFailure),
			Field: "metadata.annotations[" + v1alpha1.AnnotationOnFailure + "]", Value: string(v1alpha1.OnFailureRollback),
		})
	}
	return found
}

// noDrain finds that the pods that are replaced are stopped without care for
// their connections.
func noDrain(facts *Facts) []Finding {
	if facts.Before.Spec.Template.Annotations[v1alpha1.AnnotationDrain] != "off" {
		return nil
	}
	return []Finding{{
		What:  "the pods that are replaced have the drain switched off: requests under way may be cut",
		Field: "spec.template.metadata.annotations[" + v1alpha1.AnnotationDrain + "]", Value: "off",
		Mend: "take the annotation away; it counts from the next rollout on",
	}}
}
