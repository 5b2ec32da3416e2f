package defaults

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// deployment fills in a Deployment: one replica, rolled a quarter at a time.
func deployment(d *appsv1.Deployment) {
	podSpec(&d.Spec.Template.Spec)
	orPointer(&d.Spec.Replicas, 1)
	strategy := &d.Spec.Strategy
	orElse(&strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		orPointer(&strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		orPointer(&strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		orPointer(&strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	orPointer(&d.Spec.RevisionHistoryLimit, 10)
	orPointer(&d.Spec.ProgressDeadlineSeconds, 600)
}

func replicaSet(r *appsv1.ReplicaSet) {
	podSpec(&r.Spec.Template.Spec)
	orPointer(&r.Spec.Replicas, 1)
}

// replicationController fills in a ReplicationController, which takes labels and
// selector that it lacks from its template.
func replicationController(c *corev1.ReplicationController) {
	orPointer(&c.Spec.Replicas, 1)
	if c.Spec.Template == nil {
		return
	}
	podSpec(&c.Spec.Template.Spec)
	labels := c.Spec.Template.Labels
	if len(labels) == 0 {
		return
	}
	if len(c.Spec.Selector) == 0 {
		c.Spec.Selector = maps.Clone(labels)
	}
	if len(c.Labels) == 0 {
		c.Labels = maps.Clone(labels)
	}
}
