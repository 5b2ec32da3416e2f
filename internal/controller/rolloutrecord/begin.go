package rolloutrecord

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// newRecord returns the record of the rollout that leads to a set.
func (d *decision) newRecord(set *appsv1.ReplicaSet, revision int64) *v1alpha1.RolloutRecord {
	workload, from := d.Deployment, previous(d.ReplicaSets, set)
	target, keeper := v1alpha1.RolloutTarget{APIVersion: "apps/v1", Kind: deployment, Name: workload.Name, UID: workload.UID}, "ReplicaSet"
	if d.stateful() {
		target.Kind, keeper = statefulSet, "ControllerRevision"
	}
	record := &v1alpha1.RolloutRecord{
		ObjectMeta: metav1.ObjectMeta{
			Name:      fmt.Sprintf("%s-%d", workload.Name, revision),
			Namespace: workload.Namespace,
			Labels:    targetLabels(target.Kind, workload.Name),
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: keeper, Name: set.Name, UID: set.UID},
			},
		},
		Spec: v1alpha1.RolloutRecordSpec{
			Target:    target,
			Revision:  revision,
			To:        v1alpha1.RolloutSide{Name: set.Name, Revision: revision, Images: imagesOf(&set.Spec.Template)},
			By:        parseAuthor(workload.Annotations[v1alpha1.AnnotationChangedBy]),
			Strategy:  d.strategy(),
			StartedAt: *moment(d.startOf(set, revision)),
		},
	}
	var old *corev1.PodTemplateSpec
	if from != nil {
		old = &from.Spec.Template
		record.Spec.From = &v1alpha1.RolloutSide{Name: from.Name, Revision: rollout.RevisionOf(from), Images: imagesOf(old)}
	}
	changes := rollout.Changes(old, &set.Spec.Template)
	record.Spec.Changes = summary(changes)
	record.Spec.Cause, record.Spec.CauseComputed = causeOf(workload, set, changes)
	record.Spec.Services = d.servicesOf(old, &set.Spec.Template)
	return record
}

// maxChanges bounds how many changes a record names.
const maxChanges = 200

// summary returns the first changes, and in the last one how many more there are.
func summary(changes []v1alpha1.FieldChange) []v1alpha1.FieldChange {
	more := len(changes) - maxChanges
	if more <= 0 {
		return changes
	}
	return append(slices.Clone(changes[:maxChanges]), v1alpha1.FieldChange{Path: "…", To: fmt.Sprintf("%d more", more)})
}

// previous returns the set that was the new one before: that of the highest other
// revision; nil when there is none.
func previous(sets []*appsv1.ReplicaSet, than *appsv1.ReplicaSet) (last *appsv1.ReplicaSet) {
	for _, rs := range sets {
		if rs.UID != than.UID && rollout.RevisionOf(rs) > 0 && (last == nil || rollout.RevisionOf(rs) > rollout.RevisionOf(last)) {
			last = rs
		}
	}
	return last
}

// startOf returns when a set was first seen with its revision, or, when nobody
// was there to see, when the API says that it was made or its rollout went on.
func (d *decision) startOf(set *appsv1.ReplicaSet, revision int64) time.Time {
	if book, ok := d.Books[revision]; ok && !book.since.IsZero() {
		return book.since
	}
	var seen time.Time
	if began, ok := d.Began[set.UID]; ok && began.Revision == revision {
		seen = began.At
	}
	switch progress := d.progress(); {
	case isFirstOf(set):
		return refined(set.CreationTimestamp.Time, seen).Time
	case !seen.IsZero():
		return seen
	case progress != nil && !progress.LastUpdateTime.IsZero():
		return progress.LastUpdateTime.Time
	}
	return d.Now
}

// isFirstOf says whether a set has had one revision only: it was made for it.
func isFirstOf(set *appsv1.ReplicaSet) bool {
	return set.Annotations[rollout.AnnotationRevisionHistory] == ""
}

// causeOf returns why the revision of a set is: what the set says, else what
// follows from the changes. It was given by a user if the Deployment says so too.
func causeOf(deployment *appsv1.Deployment, set *appsv1.ReplicaSet, changes []v1alpha1.FieldChange) (cause string, computed bool) {
	cause = set.Annotations[rollout.AnnotationChangeCause]
	if cause == "" {
		return rollout.CauseOf(changes), true
	}
	return cause, cause != deployment.Annotations[rollout.AnnotationChangeCause]
}

func (d *decision) strategy() v1alpha1.RolloutStrategy {
	budget := rollout.BudgetOf(d.Deployment)
	kind := d.Deployment.Spec.Strategy.Type
	if kind == "" {
		kind = appsv1.RollingUpdateDeploymentStrategyType
	}
	return v1alpha1.RolloutStrategy{
		Type:                    string(kind),
		Replicas:                budget.Replicas,
		MaxSurge:                budget.Surge,
		MaxUnavailable:          budget.Unavailable,
		MinReadySeconds:         d.Deployment.Spec.MinReadySeconds,
		ProgressDeadlineSeconds: deadlineOf(d.Deployment),
		OnFailure:               rollout.PolicyOf(d.Deployment, d.OnFailure),
	}
}

// servicesOf returns the names of the Services that select the pods of either
// template, in order.
func (d *decision) servicesOf(templates ...*corev1.PodTemplateSpec) (names []string) {
	for _, service := range d.Services {
		for _, template := range templates {
			if template != nil && selects(service.Spec.Selector, template.Labels) {
				names = append(names, service.Name)
				break
			}
		}
	}
	slices.Sort(names)
	return names
}

// selects says whether a Service's selector matches labels. An empty one matches
// nothing.
func selects(selector, of map[string]string) bool {
	return len(selector) > 0 && labels.SelectorFromValidatedSet(selector).Matches(labels.Set(of))
}

func imagesOf(template *corev1.PodTemplateSpec) (images []string) {
	for i := range template.Spec.Containers {
		images = append(images, template.Spec.Containers[i].Image)
	}
	return images
}

// targetLabels returns the labels by which the records of a target are found. A
// name that is too long for a label's value is left out.
func targetLabels(kind, name string) map[string]string {
	set := map[string]string{v1alpha1.LabelTargetKind: kind}
	if len(validation.IsValidLabelValue(name)) == 0 {
		set[v1alpha1.LabelTargetName] = name
	}
	return set
}

// otherName returns the name of a record whose first choice has been taken by a
// record of another target.
func otherName(name string, target types.UID) string {
	const length = 5
	h := fnv.New64a()
	h.Write([]byte(target))
	hash := strconv.FormatUint(h.Sum64(), 36)
	return name + "-" + hash[len(hash)-length:]
}

// deadlineOf returns progressDeadlineSeconds, nil when there is none.
func deadlineOf(deployment *appsv1.Deployment) *int32 {
	if seconds := deployment.Spec.ProgressDeadlineSeconds; seconds != nil && *seconds != math.MaxInt32 {
		return ptr.To(*seconds)
	}
	return nil
}
