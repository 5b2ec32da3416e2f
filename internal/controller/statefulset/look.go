package statefulset

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// look reads all that a decision rests on from the cache. What it returns must
// not be changed. It returns a not-found error when there is no such set.
func (r *reconciler) look(ctx context.Context, key types.NamespacedName) (rollout.StatefulSnapshot, error) {
	s, err := r.begin(ctx, r.client, key)
	if err != nil {
		return s, err
	}
	s.Set = owned.Newest(r.written, s.Set)
	for _, owner := range []types.UID{s.Set.UID, owned.Nobody} {
		pods, err := r.pods(ctx, key.Namespace, owner)
		if err != nil {
			return s, err
		}
		s.Pods = append(s.Pods, pods...)
		var revisions appsv1.ControllerRevisionList
		if err := r.client.List(ctx, &revisions, client.InNamespace(key.Namespace),
			client.MatchingFields{controllerIndex: string(owner)}, client.UnsafeDisableDeepCopy); err != nil {
			return s, fmt.Errorf("list controller revisions: %w", err)
		}
		for i := range revisions.Items {
			s.Revisions = append(s.Revisions, owned.Newest(r.written, &revisions.Items[i]))
		}
	}
	s.Claims, err = r.claims(ctx, r.client, s.Set, client.UnsafeDisableDeepCopy)
	r.pace.Looked(key, len(s.Pods), s.Now)
	return s, err
}

// lookLive reads the same from the API.
func (r *reconciler) lookLive(ctx context.Context, key types.NamespacedName) (rollout.StatefulSnapshot, error) {
	s, err := r.begin(ctx, r.live, key)
	if err != nil {
		return s, err
	}
	selector, err := metav1.LabelSelectorAsSelector(s.Set.Spec.Selector)
	if err != nil {
		return s, fmt.Errorf("selector: %w", err)
	}
	matching := client.MatchingLabelsSelector{Selector: selector}
	var revisions appsv1.ControllerRevisionList
	if err := r.live.List(ctx, &revisions, client.InNamespace(key.Namespace), matching); err != nil {
		return s, fmt.Errorf("list controller revisions: %w", err)
	}
	for i := range revisions.Items {
		if revision := &revisions.Items[i]; concerns(s.Set, revision) {
			s.Revisions = append(s.Revisions, revision)
		}
	}
	var pods corev1.PodList
	if err := r.live.List(ctx, &pods, client.InNamespace(key.Namespace), matching); err != nil {
		return s, fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; concerns(s.Set, pod) {
			s.Pods = append(s.Pods, pod)
		}
	}
	s.Claims, err = r.claims(ctx, r.live, s.Set)
	return s, err
}

// begin reads the set and what its namespace says.
func (r *reconciler) begin(ctx context.Context, from client.Reader, key types.NamespacedName) (rollout.StatefulSnapshot, error) {
	s := rollout.StatefulSnapshot{Set: &appsv1.StatefulSet{}, Now: r.now()}
	err := from.Get(ctx, key, s.Set)
	if err == nil {
		s.OnFailure, err = loop.FailurePolicy(ctx, r.client, key.Namespace)
	}
	return s, err
}

// claims reads the claims of the namespace that have names of the set's.
func (r *reconciler) claims(ctx context.Context, from client.Reader, set *appsv1.StatefulSet, options ...client.ListOption) ([]*corev1.PersistentVolumeClaim, error) {
	if len(set.Spec.VolumeClaimTemplates) == 0 {
		return nil, nil
	}
	var list corev1.PersistentVolumeClaimList
	if err := from.List(ctx, &list, append(options, client.InNamespace(set.Namespace))...); err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	var claims []*corev1.PersistentVolumeClaim
	for i := range list.Items {
		if claims = append(claims, &list.Items[i]); !ofSet(set, list.Items[i].Name) {
			claims = claims[:len(claims)-1]
		}
	}
	return claims, nil
}

// ofSet says whether a claim has a name of the set's.
func ofSet(set *appsv1.StatefulSet, claim string) bool {
	return slices.ContainsFunc(set.Spec.VolumeClaimTemplates, func(template corev1.PersistentVolumeClaim) bool {
		_, is := rollout.OrdinalOf(template.Name+"-"+set.Name, claim)
		return is
	})
}

// concerns says whether a set controls an object, or may adopt it.
func concerns(set *appsv1.StatefulSet, object client.Object) bool {
	owner := owned.ControllerOf(object)
	return owner == set.UID || owner == owned.Nobody
}
