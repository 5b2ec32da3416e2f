package apiserver

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/registry/rest"
)

// newAdmission returns what decides on a request beyond validation: the same, in
// the same order, as Kubernetes' own plugins of these names.
func newAdmission(api *api) admission.Interface {
	return admission.NewChainHandler(
		namespaceLifecycle{admission.NewHandler(admission.Create, admission.Delete), api.namespaces},
		nodeRestriction{admission.NewHandler(admission.Create, admission.Update)},
		podAdmission{admission.NewHandler(admission.Create), api.accounts},
		priorityAdmission{admission.NewHandler(admission.Create, admission.Update), api.priorities},
		storageAdmission{admission.NewHandler(admission.Create, admission.Update), api.classes},
		noEscalation{admission.NewHandler(admission.Create, admission.Update), api.roles, api.may},
	)
}

// immortalNamespaces may not be deleted.
var immortalNamespaces = map[string]bool{
	metav1.NamespaceDefault: true, metav1.NamespaceSystem: true, metav1.NamespacePublic: true,
}

// namespaceLifecycle lets objects be made only in namespaces that exist and are
// not being deleted. It reads the namespace from the store at every creation, so
// that it is never behind.
type namespaceLifecycle struct {
	*admission.Handler
	namespaces rest.Getter
}

// Admit implements admission.MutationInterface.
func (l namespaceLifecycle) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	isNamespace := a.GetResource().GroupResource() == corev1.Resource("namespaces")
	switch {
	case isNamespace && a.GetOperation() == admission.Delete && immortalNamespaces[a.GetName()]:
		return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), fmt.Errorf("this namespace may not be deleted"))
	case isNamespace || a.GetNamespace() == "" || a.GetOperation() != admission.Create:
		return nil
	}
	found, err := l.namespaces.Get(ctx, a.GetNamespace(), &metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return apierrors.NewNotFound(corev1.Resource("namespaces"), a.GetNamespace())
	case err != nil:
		return apierrors.NewInternalError(err)
	}
	if found.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	refusal := admission.NewForbidden(a, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.GetNamespace()))
	if status := (*apierrors.StatusError)(nil); errors.As(refusal, &status) {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{
			Type:    corev1.NamespaceTerminatingCause,
			Message: fmt.Sprintf("namespace %s is being terminated", a.GetNamespace()),
			Field:   "metadata.namespace",
		})
	}
	return refusal
}

// podAdmission completes new pods as Kubernetes' plugins ServiceAccount and
// DefaultTolerationSeconds do, as far as the kinds exist here.
type podAdmission struct {
	*admission.Handler
	accounts rest.Getter
}

// Admit implements admission.MutationInterface.
func (p podAdmission) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().GroupResource() != corev1.Resource("pods") || a.GetSubresource() != "" {
		return nil
	}
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected a Pod, got a %T", runtime.Object(a.GetObject())))
	}
	aliasServiceAccount(&pod.Spec)
	if err := p.giveAccount(ctx, a, &pod.Spec); err != nil {
		return err
	}
	tolerateNodeTrouble(pod)
	return nil
}

// nodeTroubleSeconds is how long a pod stays on a node that is not ready or not
// reachable, when it does not say.
const nodeTroubleSeconds = int64(300)

func tolerateNodeTrouble(pod *corev1.Pod) {
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		tolerated := false
		for _, t := range pod.Spec.Tolerations {
			if (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
				tolerated = true
			}
		}
		if tolerated {
			continue
		}
		seconds := nodeTroubleSeconds
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
}
