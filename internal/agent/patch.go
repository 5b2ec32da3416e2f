package agent

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
)

// writeStatus changes a pod's status and moments in the API from what pod has to
// want and returns the pod as it is then. Conditions that others write are not touched,
// and a pod of the same name with another UID is refused as a conflict.
//
// A whole object is much less work for the API than a patch, but is refused if
// the pod has changed since it was read; then the patch says what changes.
func (a *Agent) writeStatus(ctx context.Context, pod *corev1.Pod, want *report) (*corev1.Pod, error) {
	written := pod.DeepCopy()
	want.status.DeepCopyInto(&written.Status)
	if moments := want.annotation(); moments != "" {
		metav1.SetMetaDataAnnotation(&written.ObjectMeta, v1alpha1.AnnotationMoments, moments)
	}
	err := a.cfg.Client.Status().Update(ctx, written)
	if apierrors.IsConflict(err) {
		return a.patchStatus(ctx, pod, want)
	}
	if err != nil {
		return nil, fmt.Errorf("update the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return written, nil
}

func (a *Agent) patchStatus(ctx context.Context, pod *corev1.Pod, want *report) (*corev1.Pod, error) {
	patch, err := statusPatch(pod, want)
	if err != nil {
		return nil, fmt.Errorf("make the patch of a pod's status: %w", err)
	}
	written := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err := a.cfg.Client.Status().Patch(ctx, written, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return nil, fmt.Errorf("patch the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return written, nil
}

func statusPatch(pod *corev1.Pod, want *report) ([]byte, error) {
	before, after := corev1.Pod{Status: pod.Status}, corev1.Pod{Status: want.status}
	after.UID = pod.UID
	if moments, ok := pod.Annotations[v1alpha1.AnnotationMoments]; ok {
		before.Annotations = map[string]string{v1alpha1.AnnotationMoments: moments}
	}
	if moments := want.annotation(); moments != "" {
		after.Annotations = map[string]string{v1alpha1.AnnotationMoments: moments}
	}
	from, err := json.Marshal(before)
	if err != nil {
		return nil, err
	}
	to, err := json.Marshal(after)
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(from, to, corev1.Pod{})
}
