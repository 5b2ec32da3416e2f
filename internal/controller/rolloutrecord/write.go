package rolloutrecord

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
)

// writer writes records.
type writer struct {
	client client.Client
	live   client.Reader // reads from the API
}

// create makes a record, and returns it as it then is: one of the same target
// and revision that is there already will do. Under a name that is taken by
// another target, it makes the record by another one. It returns nil, and no
// error, in a namespace that is going.
func (w writer) create(ctx context.Context, record *v1alpha1.RolloutRecord) (*v1alpha1.RolloutRecord, error) {
	for _, name := range []string{record.Name, otherName(record.Name, record.Spec.Target.UID)} {
		made := record.DeepCopy()
		made.Name = name
		err := w.client.Create(ctx, made)
		switch {
		case err == nil:
			return made, nil
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return nil, nil
		case !apierrors.IsAlreadyExists(err):
			return nil, fmt.Errorf("create the record %s/%s: %w", record.Namespace, name, err)
		}
		var there v1alpha1.RolloutRecord
		if err := w.live.Get(ctx, client.ObjectKeyFromObject(made), &there); err != nil {
			return nil, fmt.Errorf("read the record %s/%s: %w", record.Namespace, name, err)
		}
		if there.Spec.Target.UID == record.Spec.Target.UID && there.Spec.Revision == record.Spec.Revision {
			return &there, nil
		}
	}
	return nil, fmt.Errorf("create the record %s/%s: its names are taken", record.Namespace, record.Name)
}

// setCause replaces the cause of a record.
func (w writer) setCause(ctx context.Context, namespace string, change CauseChange) error {
	record, patch, err := merge(namespace, change.Record, map[string]any{
		"spec": map[string]any{"cause": change.Cause, "causeComputed": change.Computed},
	})
	if err == nil {
		err = w.client.Patch(ctx, record, patch)
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the cause of record %s/%s: %w", namespace, change.Record, err)
	}
	return nil
}

// setStatus replaces the status of a record, all but the traffic.
func (w writer) setStatus(ctx context.Context, namespace, name string, status *v1alpha1.RolloutRecordStatus) error {
	record, patch, err := merge(namespace, name, map[string]any{"status": own(status)})
	if err == nil {
		err = w.client.Status().Patch(ctx, record, patch)
	}
	if err != nil {
		return fmt.Errorf("write the status of record %s/%s: %w", namespace, name, err)
	}
	return nil
}

// ownStatus is the part of a record's status that is written here. It has a
// value for each field in a merge patch: what is empty is null.
type ownStatus struct {
	Phase             v1alpha1.RolloutPhase  `json:"phase"`
	Reason            string                 `json:"reason"`
	Message           string                 `json:"message"`
	EndedAt           *metav1.MicroTime      `json:"endedAt"`
	Duration          *metav1.Duration       `json:"duration"`
	Replicas          int32                  `json:"replicas"`
	UpdatedReplicas   int32                  `json:"updatedReplicas"`
	AvailableReplicas int32                  `json:"availableReplicas"`
	Steps             []v1alpha1.RolloutStep `json:"steps"`
	StepsOmitted      int32                  `json:"stepsOmitted"`
	Pods              []v1alpha1.PodTimeline `json:"pods"`
	PodsOmitted       int32                  `json:"podsOmitted"`
	Timings           []v1alpha1.StageTiming `json:"timings"`
}

// own returns the part of a status that is written here.
func own(status *v1alpha1.RolloutRecordStatus) ownStatus {
	return ownStatus{
		Phase: status.Phase, Reason: status.Reason, Message: status.Message,
		EndedAt: status.EndedAt, Duration: status.Duration,
		Replicas: status.Replicas, UpdatedReplicas: status.UpdatedReplicas, AvailableReplicas: status.AvailableReplicas,
		Steps: status.Steps, StepsOmitted: status.StepsOmitted,
		Pods: status.Pods, PodsOmitted: status.PodsOmitted, Timings: status.Timings,
	}
}

// merge encodes a merge patch, and names what it is for.
func merge(namespace, name string, patch map[string]any) (*v1alpha1.RolloutRecord, client.Patch, error) {
	encoded, err := json.Marshal(patch)
	if err != nil {
		return nil, nil, fmt.Errorf("encode patch of the record %s/%s: %w", namespace, name, err)
	}
	record := &v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	return record, client.RawPatch(types.MergePatchType, encoded), nil
}
