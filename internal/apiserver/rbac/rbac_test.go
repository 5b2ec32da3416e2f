package rbac

import (
	"context"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func TestAllows(t *testing.T) {
	list := func(text string) []string { return strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) }
	rule := func(verbs, groups, resources, names string) rbacv1.PolicyRule {
		r := rbacv1.PolicyRule{Verbs: list(verbs), APIGroups: list(groups), Resources: list(resources), ResourceNames: list(names)}
		if groups == "core" {
			r.APIGroups = []string{""}
		}
		return r
	}
	paths := func(verbs, urls string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: list(verbs), NonResourceURLs: list(urls)}
	}
	ask := func(verb, group, resource, subresource, name string) authorizer.Attributes {
		return authorizer.AttributesRecord{Verb: verb, APIGroup: group, Resource: resource, Subresource: subresource, Name: name, ResourceRequest: true}
	}
	path := func(verb, path string) authorizer.Attributes {
		return authorizer.AttributesRecord{Verb: verb, Path: path}
	}
	for _, test := range []struct {
		what string
		rule rbacv1.PolicyRule
		ask  authorizer.Attributes
		want bool
	}{
		{"as it says", rule("get,list", "core", "pods", ""), ask("list", "", "pods", "", ""), true},
		{"another verb", rule("get", "core", "pods", ""), ask("list", "", "pods", "", ""), false},
		{"another group", rule("get", "apps", "pods", ""), ask("get", "", "pods", "", ""), false},
		{"another resource", rule("get", "core", "pods", ""), ask("get", "", "secrets", "", ""), false},
		{"a subresource is not its resource", rule("get", "core", "pods", ""), ask("get", "", "pods", "log", "p"), false},
		{"the subresource", rule("get", "core", "pods/log", ""), ask("get", "", "pods", "log", "p"), true},
		{"the subresource of any", rule("update", "apps", "*/scale", ""), ask("update", "apps", "deployments", "scale", "d"), true},
		{"not another subresource of any", rule("update", "apps", "*/scale", ""), ask("update", "apps", "deployments", "status", "d"), false},
		{"not the resource itself", rule("update", "apps", "*/scale", ""), ask("update", "apps", "scale", "", "d"), false},
		{"everything", rule("*", "*", "*", ""), ask("delete", "apps", "deployments", "scale", "d"), true},
		{"everything is no path", rule("*", "*", "*", ""), path("get", "/metrics"), false},
		{"of this name", rule("get", "core", "pods", "a,b"), ask("get", "", "pods", "", "b"), true},
		{"of another name", rule("get", "core", "pods", "a,b"), ask("get", "", "pods", "", "c"), false},
		{"of no name", rule("create", "core", "pods", "a"), ask("create", "", "pods", "", ""), false},
		{"a path", paths("get", "/metrics"), path("get", "/metrics"), true},
		{"below a path", paths("get", "/metrics"), path("get", "/metrics/x"), false},
		{"paths below", paths("get", "/apis/*"), path("get", "/apis/apps"), true},
		{"not the path itself", paths("get", "/apis/*"), path("get", "/apis"), false},
		{"all paths", paths("*", "*"), path("post", "/x"), true},
		{"paths are no resources", paths("*", "*"), ask("get", "", "pods", "", ""), false},
	} {
		if got := allows(&test.rule, test.ask); got != test.want {
			t.Errorf("%s: %v, want %v", test.what, got, test.want)
		}
	}
}

// stored are roles and bindings.
type stored struct {
	clusterRoles []rbacv1.ClusterRole
	roles        []rbacv1.Role
	clusters     []rbacv1.ClusterRoleBinding
	bindings     []rbacv1.RoleBinding
}

func (s stored) ClusterRoleBindings(context.Context) ([]rbacv1.ClusterRoleBinding, error) {
	return s.clusters, nil
}

func (s stored) RoleBindings(_ context.Context, namespace string) ([]rbacv1.RoleBinding, error) {
	var in []rbacv1.RoleBinding
	for _, b := range s.bindings {
		if b.Namespace == namespace {
			in = append(in, b)
		}
	}
	return in, nil
}

func (s stored) ClusterRoles(context.Context) ([]rbacv1.ClusterRole, error) {
	return s.clusterRoles, nil
}

func (s stored) ClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	for i := range s.clusterRoles {
		if s.clusterRoles[i].Name == name {
			return &s.clusterRoles[i], nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("clusterroles"), name)
}

func (s stored) Role(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	for i := range s.roles {
		if s.roles[i].Name == name && s.roles[i].Namespace == namespace {
			return &s.roles[i], nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("roles"), name)
}

func TestAuthorizer(t *testing.T) {
	may := func(verb, resource string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{{Verbs: []string{verb}, APIGroups: []string{""}, Resources: []string{resource}}}
	}
	meta := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	ref := func(kind, name string) rbacv1.RoleRef { return rbacv1.RoleRef{Kind: kind, Name: name} }
	source := stored{
		clusterRoles: []rbacv1.ClusterRole{
			{ObjectMeta: meta("", "reader"), Rules: may("get", "pods")},
			{ObjectMeta: meta("", "whole"), AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"to": "whole"}}}}},
			{ObjectMeta: metav1.ObjectMeta{Name: "part", Labels: map[string]string{"to": "whole"}}, Rules: may("get", "services")},
		},
		roles: []rbacv1.Role{{ObjectMeta: meta("a", "writer"), Rules: may("create", "pods")}},
		clusters: []rbacv1.ClusterRoleBinding{
			{ObjectMeta: meta("", "missing"), Subjects: []rbacv1.Subject{{Kind: "User", Name: "ann"}}, RoleRef: ref("ClusterRole", "none")},
			{ObjectMeta: meta("", "readers"), Subjects: []rbacv1.Subject{{Kind: "Group", Name: "readers"}}, RoleRef: ref("ClusterRole", "reader")},
			{ObjectMeta: meta("", "whole"), Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "a", Name: "robot"}}, RoleRef: ref("ClusterRole", "whole")},
		},
		bindings: []rbacv1.RoleBinding{
			{ObjectMeta: meta("a", "writers"), Subjects: []rbacv1.Subject{{Kind: "User", Name: "ann"}, {Kind: "ServiceAccount", Name: "robot"}}, RoleRef: ref("Role", "writer")},
			{ObjectMeta: meta("b", "readers"), Subjects: []rbacv1.Subject{{Kind: "User", Name: "ann"}}, RoleRef: ref("ClusterRole", "reader")},
		},
	}
	ann, bob := &user.DefaultInfo{Name: "ann"}, &user.DefaultInfo{Name: "bob", Groups: []string{"readers"}}
	robot, other := &user.DefaultInfo{Name: "system:serviceaccount:a:robot"}, &user.DefaultInfo{Name: "system:serviceaccount:b:robot"}
	for _, test := range []struct {
		who                       user.Info
		namespace, verb, resource string
		want                      bool
		why                       string
	}{
		{ann, "a", "create", "pods", true, `RBAC: allowed by RoleBinding "a/writers" of Role "writer" to User "ann"`},
		{ann, "b", "create", "pods", false, `RBAC: clusterrole.rbac.authorization.k8s.io "none" not found`},
		{ann, "b", "get", "pods", true, ""},
		{ann, "a", "get", "pods", false, ""},
		{ann, "", "get", "pods", false, ""},
		{bob, "", "get", "pods", true, `RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "readers"`},
		{bob, "c", "get", "pods", true, ""},
		{bob, "c", "create", "pods", false, ""},
		{robot, "a", "create", "pods", true, ""},
		{robot, "c", "get", "services", true, ""}, // by the role that is made up of others
		{robot, "c", "create", "pods", false, ""},
		{other, "a", "create", "pods", false, ""},
		{other, "a", "get", "services", false, ""},
		{nil, "a", "get", "pods", false, ""},
	} {
		a := authorizer.AttributesRecord{User: test.who, Namespace: test.namespace, Verb: test.verb, Resource: test.resource, ResourceRequest: true}
		decision, why, err := Authorizer(source).Authorize(t.Context(), a)
		if got := decision == authorizer.DecisionAllow; err != nil || got != test.want || test.why != "" && why != test.why {
			t.Errorf("%v %s %s in %q: %v (%s), %v; want %v (%s)", test.who, test.verb, test.resource, test.namespace, got, why, err, test.want, test.why)
		}
	}
}
