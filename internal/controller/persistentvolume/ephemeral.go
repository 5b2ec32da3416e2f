package persistentvolume

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ephemerals makes the claims that pods bring along. They are the pod's own and
// end with it.
type ephemerals struct{ writer }

// Reconcile makes what one pod lacks.
func (e *ephemerals) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var pod corev1.Pod
	if err := e.client.Get(ctx, req.NamespacedName, &pod); err != nil || pod.DeletionTimestamp != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			if err := e.ensure(ctx, &pod, v); err != nil {
				return ctrl.Result{}, err
			}
		}
	}
	return ctrl.Result{}, nil
}

func (e *ephemerals) ensure(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	want := claimFor(pod, v)
	var claim corev1.PersistentVolumeClaim
	there, err := e.certain(ctx, client.ObjectKeyFromObject(want), &claim)
	if err == nil && !there {
		err = e.client.Create(ctx, want)
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			e.recorder.Eventf(pod, corev1.EventTypeWarning, "EphemeralVolume", "ephemeral volume %s: create PVC %s: %v", v.Name, want.Name, err)
		}
	}
	if err != nil {
		return wrapped(err, "make claim %s/%s", want.Namespace, want.Name)
	}
	if there {
		if foreign := ephemeral.VolumeIsForPod(pod, &claim); foreign != nil {
			e.recorder.Event(pod, corev1.EventTypeWarning, "EphemeralVolume", "ephemeral volume "+v.Name+": "+foreign.Error())
		}
	}
	return nil
}

// claimFor is the claim for a volume that a pod brings along.
func claimFor(pod *corev1.Pod, v *corev1.Volume) *corev1.PersistentVolumeClaim {
	template := v.Ephemeral.VolumeClaimTemplate
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: ephemeral.VolumeClaimName(pod, v),
			Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: template.Spec,
	}
}
