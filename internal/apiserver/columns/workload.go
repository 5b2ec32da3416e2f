package columns

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// The columns that every kind of workload has beside its own.
var (
	containersColumn = wide(text("Containers", "Names of each container in the template."))
	imagesColumn     = wide(text("Images", "Images referenced by each container in the template."))
)

var (
	deploymentDocs       = appsv1.DeploymentSpec{}.SwaggerDoc()
	deploymentStatusDocs = appsv1.DeploymentStatus{}.SwaggerDoc()

	deployments = tableOf(deploymentCells,
		nameColumn,
		text("Ready", "Number of the pod with ready state"),
		text("Up-to-date", deploymentStatusDocs["updatedReplicas"]),
		text("Available", deploymentStatusDocs["availableReplicas"]),
		ageColumn, containersColumn, imagesColumn,
		wide(text("Selector", deploymentDocs["selector"])))
)

func deploymentCells(d *appsv1.Deployment, now time.Time) []any {
	names, images := containerCells(&d.Spec.Template.Spec)
	return []any{
		d.Name,
		fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, wanted(d.Spec.Replicas)),
		int64(d.Status.UpdatedReplicas),
		int64(d.Status.AvailableReplicas),
		age(&d.ObjectMeta, now), names, images,
		metav1.FormatLabelSelector(d.Spec.Selector),
	}
}

// scales are the columns of the subresource scale, whatever it is of.
var scales = tableOf(scaleCells,
	nameColumn,
	number("Desired", autoscalingv1.ScaleSpec{}.SwaggerDoc()["replicas"]),
	number("Available", autoscalingv1.ScaleStatus{}.SwaggerDoc()["replicas"]),
	ageColumn)

func scaleCells(s *autoscalingv1.Scale, now time.Time) []any {
	return []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), age(&s.ObjectMeta, now)}
}

// Kinds that keep a number of pods have the same columns, each with its own descriptions.
var (
	replicaSets            = tableOf(replicaSetCells, replicaColumns(appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc())...)
	replicationControllers = tableOf(replicationControllerCells,
		replicaColumns(corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc())...)
)

func replicaColumns(spec, status map[string]string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn,
		number("Desired", spec["replicas"]),
		number("Current", status["replicas"]),
		number("Ready", status["readyReplicas"]),
		ageColumn, containersColumn, imagesColumn,
		wide(text("Selector", spec["selector"])),
	}
}

func replicaSetCells(r *appsv1.ReplicaSet, now time.Time) []any {
	names, images := containerCells(&r.Spec.Template.Spec)
	return []any{
		r.Name,
		wanted(r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
		age(&r.ObjectMeta, now), names, images,
		metav1.FormatLabelSelector(r.Spec.Selector),
	}
}

func replicationControllerCells(c *corev1.ReplicationController, now time.Time) []any {
	var names, images string
	if c.Spec.Template != nil {
		names, images = containerCells(&c.Spec.Template.Spec)
	}
	return []any{
		c.Name,
		wanted(c.Spec.Replicas), int64(c.Status.Replicas), int64(c.Status.ReadyReplicas),
		age(&c.ObjectMeta, now), names, images,
		labels.FormatLabels(c.Spec.Selector),
	}
}

// wanted is a number of replicas; an unset one, which defaults would have set, is none.
func wanted(replicas *int32) int64 {
	if replicas == nil {
		return 0
	}
	return int64(*replicas)
}
