package apiserver

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/client-go/tools/cache"

	"windlass.dev/windlass/internal/condition"
)

func podCreate(ctx context.Context, obj runtime.Object) {
	untrack(ctx, obj)
	p := obj.(*corev1.Pod)
	aliasServiceAccount(&p.Spec)
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qosClass(p)}
}

func podUpdate(_ context.Context, obj, old runtime.Object) {
	p := obj.(*corev1.Pod)
	aliasServiceAccount(&p.Spec)
	p.Status.QOSClass = old.(*corev1.Pod).Status.QOSClass
}

// aliasServiceAccount keeps the field's old name in step with the new one, which wins.
func aliasServiceAccount(s *corev1.PodSpec) {
	if s.ServiceAccountName == "" {
		s.ServiceAccountName = s.DeprecatedServiceAccount
	}
	s.DeprecatedServiceAccount = s.ServiceAccountName
}

func podStatus(obj, old runtime.Object) {
	p, before := obj.(*corev1.Pod), old.(*corev1.Pod)
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = before.DeletionTimestamp, before.DeletionGracePeriodSeconds
	p.OwnerReferences = before.OwnerReferences
	if p.Status.QOSClass == "" {
		p.Status.QOSClass = before.Status.QOSClass
	}
}

// podGrace decides how long a pod may take to end: what the request says, else
// what the pod says. A pod that runs nowhere goes at once.
func podGrace(_ context.Context, obj runtime.Object, options *metav1.DeleteOptions) bool {
	p := obj.(*corev1.Pod)
	period := int64(0)
	switch {
	case options.GracePeriodSeconds != nil:
		period = *options.GracePeriodSeconds
	case p.Spec.TerminationGracePeriodSeconds != nil:
		period = *p.Spec.TerminationGracePeriodSeconds
	}
	if p.Spec.NodeName == "" || condition.Ended(p.Status.Phase) {
		period = 0
	}
	if period < 0 {
		period = 1
	}
	options.GracePeriodSeconds = &period
	return true
}

// qosClass returns the class of a pod's quality of service, by Kubernetes' rule:
// Guaranteed when every container limits CPU and memory to what it requests,
// BestEffort when none says anything, else Burstable.
func qosClass(p *corev1.Pod) corev1.PodQOSClass {
	if p.Spec.Resources != nil {
		return classOf([]corev1.ResourceRequirements{{Requests: p.Spec.Resources.Requests, Limits: p.Spec.Resources.Limits}})
	}
	var all []corev1.ResourceRequirements
	for _, c := range p.Spec.InitContainers {
		all = append(all, c.Resources)
	}
	for _, c := range p.Spec.Containers {
		all = append(all, c.Resources)
	}
	return classOf(all)
}

func classOf(all []corev1.ResourceRequirements) corev1.PodQOSClass {
	guaranteed, bestEffort := len(all) > 0, true
	for _, r := range all {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := r.Requests[name], r.Limits[name]
			if !request.IsZero() || !limit.IsZero() {
				bestEffort = false
			}
			if limit.IsZero() || request.Cmp(limit) != 0 {
				guaranteed = false
			}
		}
	}
	switch {
	case bestEffort:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	default:
		return corev1.PodQOSBurstable
	}
}

// podWarnings tells of what is allowed but seldom meant.
func podWarnings(obj, old runtime.Object) []string {
	p := obj.(*corev1.Pod)
	if old != nil && equality.Semantic.DeepEqual(p.Spec, old.(*corev1.Pod).Spec) {
		return nil
	}
	var out []string
	if old == nil {
		if faults := validation.IsDNS1123Label(p.Name); len(faults) > 0 {
			out = append(out, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", faults))
		}
	}
	if seconds := p.Spec.TerminationGracePeriodSeconds; seconds != nil && *seconds < 0 {
		out = append(out, "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1")
	}
	for i, c := range p.Spec.Containers {
		seen := map[string]bool{}
		for j, e := range c.Env {
			if seen[e.Name] {
				out = append(out, fmt.Sprintf("spec.containers[%d].env[%d]: hides previous definition of %q, which may be dropped when using apply", i, j, e.Name))
			}
			seen[e.Name] = true
		}
	}
	return out
}

// Watches and lists of one node's pods, the commonest kind, are answered from an index.
var (
	podTriggers = storage.IndexerFuncs{"spec.nodeName": func(obj runtime.Object) string {
		return obj.(*corev1.Pod).Spec.NodeName
	}}
	podIndexers = &cache.Indexers{storage.FieldIndex("spec.nodeName"): func(obj any) ([]string, error) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return nil, fmt.Errorf("index pods by node: got a %T", obj)
		}
		return []string{pod.Spec.NodeName}, nil
	}}
)
