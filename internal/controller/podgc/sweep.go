package podgc

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/controller/loop"
)

// period is how often the pods are swept.
const period = 20 * time.Second

// Setup adds the sweeper to a manager; it runs once the manager starts.
func Setup(mgr ctrl.Manager) error {
	s := &sweeper{cache: mgr.GetClient(), live: mgr.GetAPIReader(), missing: map[string]time.Time{}}
	return loop.Every(mgr, period, "Sweep pods", s.sweep)
}

// sweeper looks at all pods every period. What it remembers between two looks,
// since when nodes are missing, may be lost: the wait then begins anew.
type sweeper struct {
	cache   client.Client
	live    client.Reader
	missing map[string]time.Time
	out     map[string]bool // nodes that are out of service
}

// sweep is one look: it reads, plans and deletes.
func (s *sweeper) sweep(ctx context.Context, now time.Time) error {
	var list corev1.PodList
	if err := s.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	pods := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	if err := s.lookForNodes(ctx, pods, now); err != nil {
		return err
	}
	var failed []error
	for _, removal := range plan(pods, s.missing, s.out, now) {
		log.FromContext(ctx).Info("Deleting a pod", "pod", client.ObjectKeyFromObject(removal.Pod), "why", removal.Why)
		failed = append(failed, s.remove(ctx, removal))
	}
	return errors.Join(failed...)
}

// lookForNodes notes which of the pods' nodes are missing, asking the API
// itself about those that the cache does not have, and which are out of service.
func (s *sweeper) lookForNodes(ctx context.Context, pods []*corev1.Pod, now time.Time) error {
	missing, out := map[string]time.Time{}, map[string]bool{}
	seen := map[string]bool{"": true}
	for _, pod := range pods {
		name := pod.Spec.NodeName
		if seen[name] {
			continue
		}
		seen[name] = true
		var node corev1.Node
		err := s.cache.Get(ctx, types.NamespacedName{Name: name}, &node)
		if apierrors.IsNotFound(err) {
			err = s.live.Get(ctx, types.NamespacedName{Name: name}, &node)
		}
		switch {
		case apierrors.IsNotFound(err):
			missing[name] = now
			if since, ok := s.missing[name]; ok {
				missing[name] = since
			}
		case err != nil:
			return fmt.Errorf("look for node %s: %w", name, err)
		default:
			out[name] = outOfService(&node)
		}
	}
	s.missing, s.out = missing, out
	return nil
}

func (s *sweeper) remove(ctx context.Context, r removal) error {
	pod := r.Pod.DeepCopy()
	if r.Fail {
		before := pod.DeepCopy()
		pod.Status.Phase = corev1.PodFailed
		pod.Status.Reason, pod.Status.Message = "NodeLost", "PodGC: "+r.Why
		condition.Set(pod, condition.Disrupted("DeletionByPodGC", pod.Status.Message, time.Now()))
		err := s.cache.Status().Patch(ctx, pod, loop.IfUnchanged(before))
		switch {
		case apierrors.IsNotFound(err), apierrors.IsConflict(err):
			return nil // it is another one by now, or somebody else speaks for it: the next sweep will see
		case err != nil:
			return fmt.Errorf("mark pod %s/%s as failed: %w", pod.Namespace, pod.Name, err)
		}
	}
	err := s.cache.Delete(ctx, pod, client.GracePeriodSeconds(0), client.Preconditions{UID: &r.Pod.UID})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
