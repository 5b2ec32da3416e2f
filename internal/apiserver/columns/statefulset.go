package columns

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var statefulSets = tableOf(statefulSetCells,
	nameColumn,
	text("Ready", "Number of the pod with ready state"),
	ageColumn, containersColumn, imagesColumn)

func statefulSetCells(s *appsv1.StatefulSet, now time.Time) []any {
	names, images := containerCells(&s.Spec.Template.Spec)
	return []any{
		s.Name,
		fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, wanted(s.Spec.Replicas)),
		age(&s.ObjectMeta, now), names, images,
	}
}

var controllerRevisions = tableOf(controllerRevisionCells,
	nameColumn,
	text("Controller", "Controller of the object"),
	number("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
	ageColumn)

func controllerRevisionCells(r *appsv1.ControllerRevision, now time.Time) []any {
	controller := "<none>"
	if owner := metav1.GetControllerOfNoCopy(r); owner != nil {
		controller = strings.ToLower(owner.Kind) + "/" + owner.Name
		if group := schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).Group; group != "" {
			controller = strings.ToLower(owner.Kind) + "." + group + "/" + owner.Name
		}
	}
	return []any{r.Name, controller, r.Revision, age(&r.ObjectMeta, now)}
}
