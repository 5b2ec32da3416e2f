package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/client-go/util/retry"

	"windlass.dev/windlass/internal/condition"
)

// eviction is the eviction subresource of pods: a deletion that a disruption
// budget may refuse, with status 429:
// https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/.
type eviction struct{ pods, budgets *registry.Store }

var (
	_ rest.NamedCreater             = eviction{}
	_ rest.GroupVersionKindProvider = eviction{}
)

// New implements rest.Storage.
func (eviction) New() runtime.Object { return &policyv1.Eviction{} }

// Destroy implements rest.Storage.
func (eviction) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (eviction) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return policyv1.SchemeGroupVersion.WithKind("Eviction")
}

// Create implements rest.NamedCreater.
func (e eviction) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	evicted, ok := obj.(*policyv1.Eviction)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not an Eviction object: %T", obj))
	}
	if evicted.Name != name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if validate != nil {
		if err := validate(ctx, evicted.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	deletion := evicted.DeleteOptions.DeepCopy()
	if deletion == nil {
		deletion = &metav1.DeleteOptions{}
	}
	if len(options.DryRun) > 0 {
		deletion.DryRun = options.DryRun
	}
	if err := e.permit(ctx, name, deletion); err != nil {
		return nil, err
	}
	if len(deletion.DryRun) == 0 {
		if err := e.mark(ctx, name, deletion.Preconditions); err != nil {
			return nil, err
		}
	}
	if _, _, err := e.pods.Delete(ctx, name, rest.ValidateAllObjectFunc, deletion); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, nil
}

// permit takes one disruption from the budget that the pod is under, if it needs
// one. Where it needs none because of what it is now, the deletion is bound to that.
func (e eviction) permit(ctx context.Context, name string, deletion *metav1.DeleteOptions) error {
	object, err := e.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return err
	}
	pod := object.(*corev1.Pod)
	if pod.DeletionTimestamp != nil || slices.Contains([]corev1.PodPhase{corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed}, pod.Status.Phase) {
		bind(deletion, pod, pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil)
		return nil
	}
	budget, err := e.budgetOf(ctx, pod)
	if err != nil || budget == nil {
		return err
	}
	return retry.OnError(retry.DefaultRetry, apierrors.IsConflict, func() error {
		if !condition.OfPod(pod, corev1.PodReady) && mayGoUnready(budget) {
			bind(deletion, pod, true)
			return nil
		}
		err := e.take(ctx, budget, pod.Name, len(deletion.DryRun) > 0)
		if apierrors.IsConflict(err) {
			fresh, failed := e.budgets.Get(ctx, budget.Name, &metav1.GetOptions{})
			if failed != nil {
				return failed
			}
			budget = fresh.(*policyv1.PodDisruptionBudget)
		}
		return err
	})
}

// bind makes a deletion one of this very pod and, where asked, of it as it is now.
func bind(deletion *metav1.DeleteOptions, pod *corev1.Pod, asIs bool) {
	if deletion.Preconditions == nil {
		deletion.Preconditions = &metav1.Preconditions{}
	}
	if deletion.Preconditions.UID == nil {
		deletion.Preconditions.UID = &pod.UID
	}
	if asIs && deletion.Preconditions.ResourceVersion == nil {
		deletion.Preconditions.ResourceVersion = &pod.ResourceVersion
	}
}

// budgetOf returns the budget that a pod is under, nil for none.
func (e eviction) budgetOf(ctx context.Context, pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	list, err := e.budgets.List(ctx, &internalversion.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list PodDisruptionBudgets: %w", err)
	}
	var found []*policyv1.PodDisruptionBudget
	items := list.(*policyv1.PodDisruptionBudgetList).Items
	for i := range items {
		selector, err := metav1.LabelSelectorAsSelector(items[i].Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, &items[i])
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0].DeepCopy(), nil
	}
	return nil, apierrors.NewInternalError(errors.New("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")) // Kubernetes' words
}

// mayGoUnready: a pod that is not ready can go without a disruption being taken.
func mayGoUnready(b *policyv1.PodDisruptionBudget) bool {
	if policy := b.Spec.UnhealthyPodEvictionPolicy; policy != nil && *policy == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// take writes that a pod is about to be disrupted, if the budget allows it.
func (e eviction) take(ctx context.Context, budget *policyv1.PodDisruptionBudget, pod string, dry bool) error {
	const refusal = "Cannot evict pod as it would violate the pod's disruption budget."
	refuse := func(again int, format string, args ...any) error { // again: in how many seconds; 0 does not say
		err := apierrors.NewTooManyRequests(refusal, again)
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: fmt.Sprintf(format, args...)})
		return err
	}
	switch status := budget.Status; {
	case status.ObservedGeneration < budget.Generation:
		return refuse(10, "The disruption budget %s is still being processed by the server.", budget.Name)
	case status.DisruptionsAllowed <= 0:
		return refuse(0, "The disruption budget %s needs %d healthy pods and has %d currently", budget.Name, status.DesiredHealthy, status.CurrentHealthy)
	case dry:
		return nil
	}
	taken := budget.DeepCopy()
	taken.Status.DisruptionsAllowed--
	if taken.Status.DisruptedPods == nil {
		taken.Status.DisruptedPods = map[string]metav1.Time{}
	}
	taken.Status.DisruptedPods[pod] = metav1.NewTime(time.Now())
	namespaced := request.WithNamespace(ctx, budget.Namespace)
	_, _, err := resource{Store: e.budgets}.status().Update(namespaced, budget.Name, rest.DefaultUpdatedObjectInfo(taken), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	return err
}

// mark says in a pod's status that it is evicted, if the pod is as conditions
// have it; where they name its version they name the new one afterwards.
func (e eviction) mark(ctx context.Context, name string, conditions *metav1.Preconditions) error {
	key, err := e.pods.KeyFunc(ctx, name)
	if err != nil {
		return err
	}
	marked, must := &corev1.Pod{}, &storage.Preconditions{}
	if conditions != nil {
		must.UID, must.ResourceVersion = conditions.UID, conditions.ResourceVersion
	}
	err = e.pods.Storage.GuaranteedUpdate(ctx, key, marked, false, must, storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		pod := obj.(*corev1.Pod)
		condition.Set(pod, condition.Disrupted("EvictionByEvictionAPI", "Eviction API: evicting", time.Now()))
		return pod, nil
	}), false, nil)
	if err != nil {
		return storeerr.InterpretUpdateError(err, corev1.Resource("pods"), name)
	}
	if must.ResourceVersion != nil {
		conditions.ResourceVersion = &marked.ResourceVersion
	}
	return nil
}
