package apiserver

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"

	"windlass.dev/windlass/api/v1alpha1"
)

// nodeRestriction holds what the agent of a node writes to what is the node's
// own, as Kubernetes' plugin of this name does: its Node but for what others
// decide of it, its Leases, its endpoint of kube-dns, its pods' status, and its
// count of a rollout's traffic.
type nodeRestriction struct{ *admission.Handler }

// Validate implements admission.ValidationInterface.
func (nodeRestriction) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	node, ok := nodeOf(a.GetUserInfo())
	if !ok {
		return nil
	}
	var why string
	switch object := a.GetObject().(type) {
	case *corev1.Node:
		why = restrictNode(node, object, before[*corev1.Node](a))
	case *coordinationv1.Lease:
		if object.Name != node && object.Name != v1alpha1.ProxyLeaseName(node) {
			why = fmt.Sprintf("it may write only its own Leases, %s and %s", node, v1alpha1.ProxyLeaseName(node))
		}
	case *discoveryv1.EndpointSlice:
		why = restrictSlice(node, object)
	case *corev1.PersistentVolume:
		if was := before[*corev1.PersistentVolume](a); !madeOn(node, object) || was != nil && !madeOn(node, was) {
			why = notMadeOn(node)
		}
	case *corev1.Pod:
		why = restrictPod(object, before[*corev1.Pod](a))
	case *authenticationv1.TokenRequest:
		if bound := object.Spec.BoundObjectRef; bound == nil || bound.Kind != "Pod" || bound.UID == "" {
			why = "it may have tokens only that are bound to a pod"
		}
	case *v1alpha1.RolloutRecord:
		why = restrictRecord(node, object, before[*v1alpha1.RolloutRecord](a))
	}
	if why != "" {
		return admission.NewForbidden(a, fmt.Errorf("node %q: %s", node, why))
	}
	return nil
}

// before returns the object before an update, nil at creation.
func before[T any](a admission.Attributes) T {
	object, _ := a.GetOldObject().(T)
	return object
}

// restrictedLabel begins the labels by which administrators set nodes apart.
const restrictedLabel = "node-restriction.kubernetes.io/"

func restrictNode(node string, object, before *corev1.Node) string {
	if object.Name != node {
		return "it may write only its own Node"
	}
	if before == nil {
		before = &corev1.Node{}
		before.Spec.Taints = object.Spec.Taints // which a node may come with
	}
	switch {
	case object.Spec.PodCIDR != before.Spec.PodCIDR:
		return "its pod range is given to it, in spec.podCIDR"
	case object.Spec.Unschedulable != before.Spec.Unschedulable:
		return "it may not change spec.unschedulable"
	case !equality.Semantic.DeepEqual(object.Spec.Taints, before.Spec.Taints):
		return "it may not change its taints"
	case !equality.Semantic.DeepEqual(object.OwnerReferences, before.OwnerReferences):
		return "it may not change its owners"
	}
	for name, value := range object.Labels {
		if strings.HasPrefix(name, restrictedLabel) && before.Labels[name] != value {
			return "it may not set the label " + name
		}
	}
	for name := range before.Labels {
		if _, kept := object.Labels[name]; strings.HasPrefix(name, restrictedLabel) && !kept {
			return "it may not remove the label " + name
		}
	}
	return ""
}

// dnsService is the Service whose endpoint each node is.
const dnsService = "kube-dns"

func restrictSlice(node string, object *discoveryv1.EndpointSlice) string {
	if object.Namespace != metav1.NamespaceSystem || object.Name != dnsService+"-"+node || object.Labels[discoveryv1.LabelServiceName] != dnsService {
		return fmt.Sprintf("it may write only its own EndpointSlice, %s/%s-%s of the Service %s", metav1.NamespaceSystem, dnsService, node, dnsService)
	}
	for _, endpoint := range object.Endpoints {
		if endpoint.NodeName == nil || *endpoint.NodeName != node {
			return "its endpoints must be on the node itself"
		}
	}
	return ""
}

// restrictPod: with the status an agent writes one annotation, and nothing else
// of the metadata. That the pod is on the node the authorizer has seen.
func restrictPod(object, before *corev1.Pod) string {
	if before == nil {
		return ""
	}
	switch {
	case !equality.Semantic.DeepEqual(object.Labels, before.Labels):
		return "it may not change a pod's labels"
	case !equality.Semantic.DeepEqual(object.OwnerReferences, before.OwnerReferences):
		return "it may not change a pod's owners"
	case !equality.Semantic.DeepEqual(object.Finalizers, before.Finalizers):
		return "it may not change a pod's finalizers"
	}
	return ""
}

func restrictRecord(node string, object, before *v1alpha1.RolloutRecord) string {
	if before == nil {
		return ""
	}
	rest := func(record *v1alpha1.RolloutRecord) v1alpha1.RolloutRecordStatus {
		status := *record.Status.DeepCopy()
		delete(status.Traffic, node)
		return status
	}
	if !equality.Semantic.DeepEqual(rest(object), rest(before)) {
		return "of a rollout's record it may write only status.traffic." + node
	}
	return ""
}
