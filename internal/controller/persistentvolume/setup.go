package persistentvolume

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/controller/loop"
)

// podClaims is the index of pods by the names of the claims they use.
const podClaims = "windlass.claims"

// Setup adds the controllers of volumes, of claims, of the protection of claims
// and of the claims that pods bring along, and the maker of the default class, to
// a manager; they run once it starts. Events go to recorder.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, podClaims, func(o client.Object) []string {
		return claimsOf(o.(*corev1.Pod))
	}); err != nil {
		return fmt.Errorf("index pods by claims: %w", err)
	}
	w := writer{client: mgr.GetClient(), live: mgr.GetAPIReader(), recorder: recorder}
	toClaims := func(which func(context.Context, client.Reader, client.Object) []reconcile.Request) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request { return which(ctx, w.client, o) })
	}
	if err := ctrl.NewControllerManagedBy(mgr).Named("persistentvolumeclaim").
		For(&corev1.PersistentVolumeClaim{}).
		Watches(&corev1.PersistentVolume{}, toClaims(claimsOfVolume)).
		Watches(&storagev1.StorageClass{}, toClaims(claimsOfClass)).
		Watches(&corev1.Node{}, toClaims(claimsOfNode)).
		Complete(&claims{w}); err != nil {
		return err
	}
	if err := ctrl.NewControllerManagedBy(mgr).Named("persistentvolume").
		For(&corev1.PersistentVolume{}).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(w.volumesOfClaim)).
		Complete(&volumes{w}); err != nil {
		return err
	}
	if err := ctrl.NewControllerManagedBy(mgr).Named("pvc-protection").
		For(&corev1.PersistentVolumeClaim{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(claimsOfPod)).
		Complete(&protector{w}); err != nil {
		return err
	}
	if err := ctrl.NewControllerManagedBy(mgr).Named("ephemeral-volume").
		For(&corev1.Pod{}, builder.WithPredicates(predicate.NewPredicateFuncs(bringsClaims))).
		Owns(&corev1.PersistentVolumeClaim{}).
		Complete(&ephemerals{w}); err != nil {
		return err
	}
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		if err := ensureClass(ctx, w.live, w.client); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "Make the default StorageClass")
		}
		return nil
	}))
}

// claimsOf returns the names of the claims that a pod uses.
func claimsOf(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, ephemeral.VolumeClaimName(pod, v))
		}
	}
	return names
}

// bringsClaims says whether a pod has claims made for itself.
func bringsClaims(o client.Object) bool {
	return slices.ContainsFunc(o.(*corev1.Pod).Spec.Volumes, func(v corev1.Volume) bool { return v.Ephemeral != nil })
}

func claimsOfPod(_ context.Context, o client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range claimsOf(o.(*corev1.Pod)) {
		requests = append(requests, loop.Named(o.GetNamespace(), name))
	}
	return requests
}

// claimsOfVolume: the one that it names; all that wait, for one that is free.
func claimsOfVolume(ctx context.Context, reader client.Reader, o client.Object) []reconcile.Request {
	v := o.(*corev1.PersistentVolume)
	requests := waiting(ctx, reader, func(c *corev1.PersistentVolumeClaim) bool {
		free := v.Spec.ClaimRef == nil && c.Spec.VolumeName == "" && volume.GetPersistentVolumeClaimClass(c) == volume.GetPersistentVolumeClass(v)
		return free || c.Spec.VolumeName == v.Name
	})
	if ref := v.Spec.ClaimRef; ref != nil {
		requests = append(requests, loop.Named(ref.Namespace, ref.Name))
	}
	return requests
}

func claimsOfClass(ctx context.Context, reader client.Reader, o client.Object) []reconcile.Request {
	return waiting(ctx, reader, func(c *corev1.PersistentVolumeClaim) bool {
		return c.Spec.VolumeName == "" && volume.GetPersistentVolumeClaimClass(c) == o.GetName()
	})
}

// claimsOfNode: those that it is selected for, for it may be gone, and those that wait
// for any.
func claimsOfNode(ctx context.Context, reader client.Reader, o client.Object) []reconcile.Request {
	n := o.(*corev1.Node)
	ready := condition.OfNode(n, corev1.NodeReady)
	return waiting(ctx, reader, func(c *corev1.PersistentVolumeClaim) bool {
		selected := c.Annotations[volume.AnnSelectedNode]
		return c.Spec.VolumeName == "" && (selected == n.Name || selected == "" && ready)
	})
}

func waiting(ctx context.Context, reader client.Reader, which func(*corev1.PersistentVolumeClaim) bool) []reconcile.Request {
	return loop.Those(ctx, reader, &corev1.PersistentVolumeClaimList{}, which)
}

// volumesOfClaim: those that name it and the one that it names.
func (w *writer) volumesOfClaim(ctx context.Context, o client.Object) []reconcile.Request {
	c := o.(*corev1.PersistentVolumeClaim)
	return loop.Those(ctx, w.client, &corev1.PersistentVolumeList{}, func(v *corev1.PersistentVolume) bool {
		ref := v.Spec.ClaimRef
		return v.Name == c.Spec.VolumeName || ref != nil && ref.Namespace == c.Namespace && ref.Name == c.Name
	})
}

// ensureClass makes the default class when there is no class at all.
func ensureClass(ctx context.Context, live client.Reader, c client.Client) error {
	var list storagev1.StorageClassList
	if err := live.List(ctx, &list, client.Limit(1)); err != nil {
		return fmt.Errorf("list StorageClasses: %w", err)
	}
	if len(list.Items) > 0 {
		return nil
	}
	err := c.Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.LocalClass, Annotations: map[string]string{
			"storageclass.kubernetes.io/is-default-class": "true",
		}},
		Provisioner:          v1alpha1.LocalProvisioner,
		ReclaimPolicy:        ptr.To(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode:    ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
		AllowVolumeExpansion: ptr.To(true),
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create StorageClass %s: %w", v1alpha1.LocalClass, err)
	}
	return nil
}
