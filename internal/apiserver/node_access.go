package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/component-helpers/storage/volume"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/pki"
)

// nodeOf returns the node whose agent a user is.
func nodeOf(who user.Info) (string, bool) {
	if who == nil || !slices.Contains(who.GetGroups(), pki.GroupNodes) {
		return "", false
	}
	return pki.NodeOfUser(who.GetName())
}

// nodeAuthorizer lets the agent of a node do what its work needs, in the spirit
// of Kubernetes' Node authorizer
// (https://kubernetes.io/docs/reference/access-authn-authz/node/). What it may
// write into an object nodeRestriction says.
type nodeAuthorizer struct {
	members       *memberships
	pods, volumes *registry.Store
}

// nodeReads are the kinds that every node may read all of: what routes traffic,
// and where the other nodes are.
var nodeReads = map[string]bool{
	"services": true, "discovery.k8s.io/endpointslices": true, "nodes": true, "windlass.dev/rolloutrecords": true,
	"namespaces": true, "storage.k8s.io/storageclasses": true, "persistentvolumes": true, "persistentvolumeclaims": true,
}

// nodeWrites are the requests to write that every node may make, as verbs by
// resource; nodeRestriction looks into them.
var nodeWrites = map[string][]string{
	"nodes":                              {"create", "update", "patch"},
	"nodes/status":                       {"update", "patch"},
	"persistentvolumes":                  {"create", "update"},
	"events":                             {"create", "update", "patch"},
	"events.k8s.io/events":               {"create", "update", "patch"},
	"discovery.k8s.io/endpointslices":    {"create", "update", "patch"},
	"windlass.dev/rolloutrecords/status": {"patch", "update"},
}

// Authorize implements authorizer.Authorizer.
func (n nodeAuthorizer) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	node, ok := nodeOf(a.GetUser())
	if !ok {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if a.IsResourceRequest() {
		why, err := n.members.revoked(ctx, node, a.GetUser())
		if err != nil {
			return authorizer.DecisionNoOpinion, err.Error(), err
		}
		if why != "" { // no role of its groups helps it
			return authorizer.DecisionDeny, why, nil
		}
	}
	if why := n.refuses(ctx, node, a); why != "" {
		return authorizer.DecisionNoOpinion, why, nil
	}
	return authorizer.DecisionAllow, "", nil
}

// refuses returns why a node may not make a request, "" if it may.
func (n nodeAuthorizer) refuses(ctx context.Context, node string, a authorizer.Attributes) string {
	if !a.IsResourceRequest() {
		if a.GetVerb() == "get" && (a.GetPath() == "/api" || a.GetPath() == "/apis" || strings.HasPrefix(a.GetPath(), "/api/") || strings.HasPrefix(a.GetPath(), "/apis/")) {
			return ""
		}
		return "a node has no business at this path"
	}
	resource := a.GetResource()
	if a.GetAPIGroup() != "" {
		resource = a.GetAPIGroup() + "/" + resource
	}
	if a.GetSubresource() != "" {
		resource += "/" + a.GetSubresource()
	}
	reads := slices.Contains([]string{"get", "list", "watch"}, a.GetVerb())
	switch {
	case reads && nodeReads[resource], slices.Contains(nodeWrites[resource], a.GetVerb()):
		return ""
	}
	switch resource {
	case "pods", "pods/status":
		return n.refusesPod(ctx, node, a)
	case "coordination.k8s.io/leases":
		return refusesLease(a)
	case "persistentvolumes":
		return n.refusesVolume(ctx, node, a)
	case "secrets", "configmaps", "serviceaccounts", "serviceaccounts/token":
		if resource == "serviceaccounts/token" && a.GetVerb() != "create" || resource != "serviceaccounts/token" && (!reads || a.GetName() == "") {
			return "a node may only get and watch these, one by one"
		}
		return n.refusesReference(ctx, node, resource, a)
	}
	return "no agent's work needs this"
}

// refusesPod: a node sees, changes the status of, and deletes the pods that are
// bound to it.
func (n nodeAuthorizer) refusesPod(ctx context.Context, node string, a authorizer.Attributes) string {
	switch verb := a.GetVerb(); {
	case verb == "list" || verb == "watch":
		if a.GetName() == "" && !selectsNode(a, node) {
			return "a node lists its own pods only: select by spec.nodeName=" + node
		}
		if a.GetName() == "" {
			return ""
		}
	case verb == "get":
	case verb == "delete" && a.GetSubresource() == "":
	case (verb == "update" || verb == "patch") && a.GetSubresource() == "status":
	default:
		return "a node may get and delete its pods and write their status"
	}
	found, err := n.pods.Get(request.WithNamespace(ctx, a.GetNamespace()), a.GetName(), &metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "" // which the request will find too
	}
	if err != nil {
		return err.Error()
	}
	if on := found.(*corev1.Pod).Spec.NodeName; on != node {
		return fmt.Sprintf("the pod is not on node %s", node)
	}
	return ""
}

// refusesVolume: a node deletes the volumes that it made.
func (n nodeAuthorizer) refusesVolume(ctx context.Context, node string, a authorizer.Attributes) string {
	if a.GetVerb() != "delete" {
		return "a node may make, change and delete the volumes on it"
	}
	found, err := n.volumes.Get(ctx, a.GetName(), &metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "" // which the request will find too
	case err != nil:
		return err.Error()
	case !madeOn(node, found.(*corev1.PersistentVolume)):
		return notMadeOn(node)
	}
	return ""
}

// madeOn says whether a volume is one of those that the agent of a node makes: a
// directory there, and nowhere else.
func madeOn(node string, v *corev1.PersistentVolume) bool {
	if v.Annotations[volume.AnnDynamicallyProvisioned] != v1alpha1.LocalProvisioner || v.Spec.Local == nil ||
		v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil || len(v.Spec.NodeAffinity.Required.NodeSelectorTerms) != 1 {
		return false
	}
	return slices.ContainsFunc(v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
		return r.Key == corev1.LabelHostname && r.Operator == corev1.NodeSelectorOpIn && slices.Equal(r.Values, []string{node})
	})
}

func notMadeOn(node string) string {
	return fmt.Sprintf("the volume is not one that was made on node %s", node)
}

func selectsNode(a authorizer.Attributes, node string) bool {
	requirements, err := a.GetFieldSelector()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(requirements, func(r fields.Requirement) bool {
		return r.Field == "spec.nodeName" && (r.Operator == selection.Equals || r.Operator == selection.DoubleEquals) && r.Value == node
	})
}

// refusesLease: nodes read each other's Leases, by which a drain goes; what they
// write nodeRestriction looks into.
func refusesLease(a authorizer.Attributes) string {
	if a.GetNamespace() != corev1.NamespaceNodeLease {
		return "a node's Leases are in " + corev1.NamespaceNodeLease
	}
	if slices.Contains([]string{"get", "list", "watch", "create", "update", "patch"}, a.GetVerb()) {
		return ""
	}
	return "a node does not delete Leases"
}

// refusesReference: a node gets what a pod that is bound to it refers to.
func (n nodeAuthorizer) refusesReference(ctx context.Context, node, resource string, a authorizer.Attributes) string {
	listed, err := n.pods.List(request.WithNamespace(ctx, a.GetNamespace()), &internalversion.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node),
	})
	if err != nil {
		return err.Error()
	}
	list := listed.(*corev1.PodList)
	for i := range list.Items {
		if refersTo(&list.Items[i].Spec, resource, a.GetName()) {
			return ""
		}
	}
	return fmt.Sprintf("no pod on node %s refers to it", node)
}

// refersTo says whether a pod needs an object of its namespace to run.
func refersTo(spec *corev1.PodSpec, resource, name string) bool {
	if resource == "serviceaccounts/token" {
		resource = "serviceaccounts"
	}
	refers := false
	eachReference(spec, func(r, n string) { refers = refers || r == resource && n == name })
	return refers
}

// eachReference calls see with every object of its namespace that a pod needs to run.
func eachReference(spec *corev1.PodSpec, see func(resource, name string)) {
	see("serviceaccounts", spec.ServiceAccountName)
	for _, pull := range spec.ImagePullSecrets {
		see("secrets", pull.Name)
	}
	for _, v := range spec.Volumes {
		switch {
		case v.Secret != nil:
			see("secrets", v.Secret.SecretName)
		case v.ConfigMap != nil:
			see("configmaps", v.ConfigMap.Name)
		case v.Projected != nil:
			for _, source := range v.Projected.Sources {
				if source.Secret != nil {
					see("secrets", source.Secret.Name)
				}
				if source.ConfigMap != nil {
					see("configmaps", source.ConfigMap.Name)
				}
			}
		}
	}
	eachContainer(spec, func(c *corev1.Container) {
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil {
				see("secrets", from.SecretRef.Name)
			}
			if from.ConfigMapRef != nil {
				see("configmaps", from.ConfigMapRef.Name)
			}
		}
		for _, env := range c.Env {
			switch from := env.ValueFrom; {
			case from == nil:
			case from.SecretKeyRef != nil:
				see("secrets", from.SecretKeyRef.Name)
			case from.ConfigMapKeyRef != nil:
				see("configmaps", from.ConfigMapKeyRef.Name)
			}
		}
	})
}

func eachContainer(spec *corev1.PodSpec, do func(*corev1.Container)) {
	for i := range spec.InitContainers {
		do(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		do(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		do((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
}
