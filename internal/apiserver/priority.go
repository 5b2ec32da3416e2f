package apiserver

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/internal/apiserver/validation"
)

// priorityClasses reads PriorityClasses.
type priorityClasses interface {
	rest.Getter
	rest.Lister
}

// priorityAdmission gives new pods the number of their priority class, and lets
// one class at the most be the default, as Kubernetes' plugin Priority does.
type priorityAdmission struct {
	*admission.Handler
	classes priorityClasses
}

var (
	_ admission.MutationInterface   = priorityAdmission{}
	_ admission.ValidationInterface = priorityAdmission{}
)

// Admit implements admission.MutationInterface.
func (p priorityAdmission) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok || a.GetOperation() != admission.Create || a.GetSubresource() != "" {
		return nil
	}
	class, err := p.of(ctx, pod.Spec.PriorityClassName)
	switch {
	case apierrors.IsNotFound(err):
		return admission.NewForbidden(a, fmt.Errorf("no PriorityClass with name %s was found", pod.Spec.PriorityClassName))
	case err != nil:
		return apierrors.NewInternalError(err)
	case pod.Spec.Priority != nil && *pod.Spec.Priority != class.Value:
		return admission.NewForbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, class.Value))
	case pod.Spec.PreemptionPolicy != nil && class.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy != *class.PreemptionPolicy:
		return admission.NewForbidden(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *pod.Spec.PreemptionPolicy, *class.PreemptionPolicy))
	}
	policy := corev1.PreemptLowerPriority
	if class.PreemptionPolicy != nil {
		policy = *class.PreemptionPolicy
	}
	pod.Spec.PriorityClassName, pod.Spec.Priority, pod.Spec.PreemptionPolicy = class.Name, &class.Value, &policy
	return nil
}

// of returns the class of a name; for "" the default one, and where there is none
// a class without a name, of priority 0.
func (p priorityAdmission) of(ctx context.Context, name string) (*schedulingv1.PriorityClass, error) {
	if value, system := validation.SystemPriorities[name]; system {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}, nil
	}
	if name != "" {
		class, err := p.classes.Get(ctx, name, &metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return class.(*schedulingv1.PriorityClass), nil
	}
	chosen, err := p.byDefault(ctx)
	if err != nil || chosen == nil {
		return &schedulingv1.PriorityClass{}, err
	}
	return chosen, nil
}

// byDefault returns the class of pods that name none: the lowest of those that
// say so, nil when none does.
func (p priorityAdmission) byDefault(ctx context.Context) (*schedulingv1.PriorityClass, error) {
	list, err := p.classes.List(ctx, &internalversion.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list PriorityClasses: %w", err)
	}
	var chosen *schedulingv1.PriorityClass
	items := list.(*schedulingv1.PriorityClassList).Items
	for i := range items {
		if items[i].GlobalDefault && (chosen == nil || items[i].Value < chosen.Value) {
			chosen = &items[i]
		}
	}
	return chosen, nil
}

// Validate implements admission.ValidationInterface.
func (p priorityAdmission) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	class, ok := a.GetObject().(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault || a.GetSubresource() != "" {
		return nil
	}
	other, err := p.byDefault(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if other != nil && other.Name != class.Name {
		return admission.NewForbidden(a, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
	}
	return nil
}

// ensurePriorities makes the classes that every cluster has.
func ensurePriorities(ctx context.Context, client kubernetes.Interface) error {
	about := map[string]string{
		"system-cluster-critical": "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
		"system-node-critical":    "Used for system critical pods that must not be moved from their current node.",
	}
	for name, value := range validation.SystemPriorities {
		_, err := client.SchedulingV1().PriorityClasses().Create(ctx, &schedulingv1.PriorityClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: about[name],
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make the priority class %s: %w", name, err)
		}
	}
	return nil
}
