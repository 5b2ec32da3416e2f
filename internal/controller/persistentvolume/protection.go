package persistentvolume

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// claimProtection keeps a claim that pods use.
const claimProtection = "kubernetes.io/pvc-protection"

// protector lets go of claims that are being deleted once no pod uses them.
type protector struct{ writer }

// Reconcile looks at one claim. Before it lets go it asks the API itself for the
// pods: one may have been given a node a moment ago.
func (p *protector) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var claim corev1.PersistentVolumeClaim
	if err := p.client.Get(ctx, req.NamespacedName, &claim); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if claim.DeletionTimestamp == nil || !slices.Contains(claim.Finalizers, claimProtection) {
		return ctrl.Result{}, nil
	}
	var pods corev1.PodList
	if err := p.client.List(ctx, &pods, client.InNamespace(claim.Namespace), client.MatchingFields{podClaims: claim.Name}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list pods: %w", err)
	}
	if used(pods.Items, claim.Name) {
		return ctrl.Result{}, nil // the pod's end wakes us
	}
	if err := p.live.List(ctx, &pods, client.InNamespace(claim.Namespace)); err != nil {
		return ctrl.Result{}, fmt.Errorf("list pods: %w", err)
	}
	if used(pods.Items, claim.Name) {
		return ctrl.Result{}, nil
	}
	claim.Finalizers = slices.DeleteFunc(claim.Finalizers, func(f string) bool { return f == claimProtection })
	_, err := p.put(ctx, &claim, true, nil)
	return ctrl.Result{}, wrapped(err, "let go of claim %s", req.NamespacedName)
}

// used says whether a pod uses a claim. One without a node does not: it will be
// given none while its claim is being deleted.
func used(pods []corev1.Pod, claim string) bool {
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool {
		return p.Spec.NodeName != "" && slices.Contains(claimsOf(&p), claim)
	})
}
