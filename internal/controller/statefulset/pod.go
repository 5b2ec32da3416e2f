package statefulset

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/rollout"
)

// createPod makes the claims of a pod that are missing, and the pod.
func (w *work) createPod(ctx context.Context, step rollout.CreatePod) error {
	if err := w.createClaims(ctx, step.Claims, step.Pod.Name, step.Set); err != nil {
		return err
	}
	err := w.client.Create(ctx, step.Pod.DeepCopy())
	if apierrors.IsAlreadyExists(err) && w.isOurs(ctx, step.Pod) {
		return fmt.Errorf("create pod %s: %w", step.Pod.Name, loop.ErrStale)
	}
	if err != nil {
		return w.notCreated(fmt.Sprintf("Pod %s in StatefulSet %s", step.Pod.Name, step.Set), step.Pod, err)
	}
	return nil
}

// createClaims makes those claims of a pod that are missing.
func (w *work) createClaims(ctx context.Context, claims []*corev1.PersistentVolumeClaim, pod, set string) error {
	for _, claim := range claims {
		what := fmt.Sprintf("Claim %s Pod %s in StatefulSet %s", claim.Name, pod, set)
		err := w.client.Create(ctx, claim.DeepCopy())
		switch {
		case apierrors.IsAlreadyExists(err): // made by hand, or by a process that died
		case err != nil:
			return w.notCreated(what, claim, err)
		default:
			w.recorder.Eventf(w.set, corev1.EventTypeNormal, "SuccessfulCreate", "create %s success", what)
		}
	}
	return nil
}

// isOurs says whether the pod that has a name is the set's.
func (w *work) isOurs(ctx context.Context, pod *corev1.Pod) bool {
	var there corev1.Pod
	err := w.live.Get(ctx, client.ObjectKeyFromObject(pod), &there)
	return apierrors.IsNotFound(err) || err == nil && metav1.IsControlledBy(&there, w.set)
}

func (w *work) notCreated(what string, object client.Object, err error) error {
	if going := loop.Going(err); going != nil {
		return going
	}
	w.recorder.Eventf(w.set, corev1.EventTypeWarning, "FailedCreate", "create %s failed error: %v", what, err)
	return fmt.Errorf("create %T %s: %w", object, object.GetName(), err)
}

// deletePod deletes a pod, with its own grace period, if it is as it was read.
func (w *work) deletePod(ctx context.Context, step rollout.DeletePod) error {
	err := w.delete(ctx, step.Pod)
	if err != nil && !errors.Is(err, loop.ErrStale) {
		w.recorder.Eventf(w.set, corev1.EventTypeWarning, "FailedDelete", "delete Pod %s in StatefulSet %s failed error: %v", step.Pod.Name, step.Set, err)
	}
	return err
}
