package scheduler

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/volume"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/scheduler/fit"
)

// followFacts feeds the loop with claims, volumes and classes, and with budgets.
// It returns what tells when all that exists is known.
func (l *loop) followFacts(ctx context.Context, informers cache.Cache) ([]toolscache.InformerSynced, error) {
	var synced []toolscache.InformerSynced
	for _, kind := range []struct {
		object      client.Object
		set, remove func(*fit.Cluster, client.Object)
	}{{
		&corev1.PersistentVolumeClaim{},
		func(c *fit.Cluster, o client.Object) { c.SetClaim(o.(*corev1.PersistentVolumeClaim)) },
		func(c *fit.Cluster, o client.Object) { c.RemoveClaim(o.GetNamespace(), o.GetName()) },
	}, {
		&corev1.PersistentVolume{},
		func(c *fit.Cluster, o client.Object) { c.SetVolume(o.(*corev1.PersistentVolume)) },
		func(c *fit.Cluster, o client.Object) { c.RemoveVolume(o.GetName()) },
	}, {
		&storagev1.StorageClass{},
		func(c *fit.Cluster, o client.Object) { c.SetClass(o.(*storagev1.StorageClass)) },
		func(c *fit.Cluster, o client.Object) { c.RemoveClass(o.GetName()) },
	}, {
		&policyv1.PodDisruptionBudget{},
		func(c *fit.Cluster, o client.Object) { c.SetBudget(o.(*policyv1.PodDisruptionBudget)) },
		func(c *fit.Cluster, o client.Object) { c.RemoveBudget(o.GetNamespace(), o.GetName()) },
	}} {
		informer, err := informers.GetInformer(ctx, kind.object)
		if err != nil {
			return nil, err
		}
		seen, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { l.learn(func(c *fit.Cluster) { kind.set(c, o.(client.Object)) }) },
			UpdateFunc: func(_, o any) { l.learn(func(c *fit.Cluster) { kind.set(c, o.(client.Object)) }) },
			DeleteFunc: func(o any) {
				if object, ok := last(o).(client.Object); ok {
					l.learn(func(c *fit.Cluster) { kind.remove(c, object) })
				}
			},
		})
		if err != nil {
			return nil, err
		}
		synced = append(synced, seen.HasSynced)
	}
	return synced, nil
}

// selectNode writes a claim's annotation selected-node, unless the claim has
// changed since it was decided on.
func (w *apiWriter) selectNode(ctx context.Context, claim *corev1.PersistentVolumeClaim, node string) outcome {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": claim.UID, "resourceVersion": claim.ResourceVersion, "annotations": map[string]string{volume.AnnSelectedNode: node},
	}})
	if err == nil {
		err = w.client.Patch(ctx, claim.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
	}
	switch {
	case err == nil:
		return written
	case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
		return outdated
	}
	w.log.Error(err, "Select the node of a claim", "claim", client.ObjectKeyFromObject(claim), "node", node)
	return failed
}

// same says whether claims are in the API as they were decided on: bound, and not about
// to go. One that is made again soon after it was deleted has another volume, or none
// until a pod without a node asks for it.
func (w *apiWriter) same(ctx context.Context, claims []*corev1.PersistentVolumeClaim) bool {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for _, claim := range claims {
		var now corev1.PersistentVolumeClaim
		err := w.live.Get(ctx, client.ObjectKeyFromObject(claim), &now)
		if client.IgnoreNotFound(err) != nil {
			w.log.Error(err, "Look at a claim", "claim", client.ObjectKeyFromObject(claim))
		}
		if err != nil || now.UID != claim.UID || now.DeletionTimestamp != nil {
			return false
		}
	}
	return true
}
