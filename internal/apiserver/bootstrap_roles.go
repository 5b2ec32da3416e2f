package apiserver

import (
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
)

// The labels and annotations of the roles that every cluster has.
var (
	bootstrapLabels      = map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}
	bootstrapAnnotations = map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"}
)

var (
	readVerbs  = []string{"get", "list", "watch"}
	writeVerbs = []string{"create", "delete", "deletecollection", "patch", "update"}
	allVerbs   = append(append([]string{}, readVerbs...), writeVerbs...)
)

func rule(verbs []string, group string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: resources}
}

func pathRule(paths ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: paths}
}

// viewRules are what may be read in a namespace without learning secrets.
func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(readVerbs, "", "configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "pods/log", "pods/status",
			"replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status", "serviceaccounts", "services", "services/status",
			"bindings", "events", "limitranges", "namespaces", "namespaces/status", "resourcequotas", "resourcequotas/status"),
		rule(readVerbs, "apps", "controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status",
			"replicasets", "replicasets/scale", "replicasets/status", "statefulsets", "statefulsets/scale", "statefulsets/status"),
		rule(readVerbs, "autoscaling", "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
		rule(readVerbs, "batch", "cronjobs", "cronjobs/status", "jobs", "jobs/status"),
		rule(readVerbs, "discovery.k8s.io", "endpointslices"),
		rule(readVerbs, "networking.k8s.io", "ingresses", "ingresses/status", "networkpolicies"),
		rule(readVerbs, "policy", "poddisruptionbudgets", "poddisruptionbudgets/status"),
		rule(readVerbs, "windlass.dev", "rolloutrecords", "rolloutrecords/status"),
	}
}

// editRules are what may be changed beside that.
func editRules() []rbacv1.PolicyRule {
	return append(viewRules(),
		rule(readVerbs, "", "secrets", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"),
		rule([]string{"impersonate"}, "", "serviceaccounts"),
		rule(writeVerbs, "", "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "configmaps", "endpoints", "events", "persistentvolumeclaims",
			"replicationcontrollers", "replicationcontrollers/scale", "secrets", "serviceaccounts", "services", "services/proxy"),
		rule([]string{"create"}, "", "pods/eviction", "serviceaccounts/token"),
		rule(writeVerbs, "apps", "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale"),
		rule(writeVerbs, "autoscaling", "horizontalpodautoscalers"),
		rule(writeVerbs, "batch", "cronjobs", "jobs"),
		rule(writeVerbs, "networking.k8s.io", "ingresses", "networkpolicies"),
		rule(writeVerbs, "policy", "poddisruptionbudgets"),
		rule(allVerbs, "coordination.k8s.io", "leases"),
	)
}

// bootstrapRoles are the roles that every cluster has, by name.
func bootstrapRoles() map[string][]rbacv1.PolicyRule {
	return map[string][]rbacv1.PolicyRule{
		"cluster-admin": everything,
		"admin": append(editRules(),
			rule([]string{"create"}, "authorization.k8s.io", "localsubjectaccessreviews"),
			rule(allVerbs, rbacv1.GroupName, "roles", "rolebindings")),
		"edit":             editRules(),
		"view":             viewRules(),
		"system:discovery": {pathRule("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/")},
		"system:basic-user": {
			rule([]string{"create"}, "authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
			rule([]string{"create"}, "authentication.k8s.io", "selfsubjectreviews"),
		},
		"system:public-info-viewer":               {pathRule("/healthz", "/livez", "/readyz", "/version", "/version/")},
		"system:service-account-issuer-discovery": {pathRule("/.well-known/openid-configuration", "/openid/v1/jwks")},
		"system:auth-delegator": {
			rule([]string{"create"}, "authentication.k8s.io", "tokenreviews"),
			rule([]string{"create"}, "authorization.k8s.io", "subjectaccessreviews"),
		},
		"system:monitoring": {pathRule("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*")},
	}
}

// bootstrapBindings are who has which of them.
func bootstrapBindings() map[string][]string {
	return map[string][]string{
		"cluster-admin":                           {user.SystemPrivilegedGroup},
		"system:discovery":                        {user.AllAuthenticated},
		"system:basic-user":                       {user.AllAuthenticated},
		"system:public-info-viewer":               {user.AllAuthenticated, user.AllUnauthenticated},
		"system:service-account-issuer-discovery": {serviceaccount.AllServiceAccountsGroup},
		"system:monitoring":                       {user.MonitoringGroup},
	}
}

// ensureRoles makes the roles and bindings that every cluster has, and gives back
// to them what they lack, unless they are annotated otherwise.
func ensureRoles(client kubernetes.Interface) error {
	for name, rules := range bootstrapRoles() {
		role := &rbacv1.ClusterRole{ObjectMeta: bootstrapMeta(name), Rules: rules}
		reconcile := reconciliation.ReconcileRoleOptions{
			Role:    reconciliation.ClusterRoleRuleOwner{ClusterRole: role},
			Client:  reconciliation.ClusterRoleModifier{Client: client.RbacV1().ClusterRoles()},
			Confirm: true,
		}
		if _, err := reconcile.Run(); err != nil {
			return fmt.Errorf("make the ClusterRole %s: %w", name, err)
		}
	}
	for name, groups := range bootstrapBindings() {
		binding := &rbacv1.ClusterRoleBinding{ObjectMeta: bootstrapMeta(name), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}}
		for _, group := range groups {
			binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group})
		}
		reconcile := reconciliation.ReconcileRoleBindingOptions{
			RoleBinding: reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: binding},
			Client:      reconciliation.ClusterRoleBindingClientAdapter{Client: client.RbacV1().ClusterRoleBindings()},
			Confirm:     true,
		}
		if _, err := reconcile.Run(); err != nil {
			return fmt.Errorf("make the ClusterRoleBinding %s: %w", name, err)
		}
	}
	return nil
}

func bootstrapMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: bootstrapLabels, Annotations: bootstrapAnnotations}
}
