package apiserver_test

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// give binds a ClusterRole to the account robot in a namespace.
func (a *accounts) give(name, clusterRole string) {
	a.t.Helper()
	must[*rbacv1.RoleBinding](a.t)(a.admin.RbacV1().RoleBindings("default").Create(a.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: "robot"}},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: clusterRole},
	}, metav1.CreateOptions{}))
}

func listsPods(t *testing.T, client kubernetes.Interface, namespace string) error {
	_, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	return err
}

// An account may do what its roles allow, in the namespaces where they are bound.
func TestRolesAllow(t *testing.T) {
	a := newAccounts(t)
	robot := a.as(a.token(authenticationv1.TokenRequestSpec{}))
	if err := listsPods(t, robot, "default"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `User "system:serviceaccount:default:robot" cannot list resource "pods" in API group "" in the namespace "default"`) {
		t.Errorf("without a role: %v", err)
	}
	a.give("views", "view")
	eventually(t, "the role holds", func() bool { return listsPods(t, robot, "default") == nil })
	if err := listsPods(t, robot, "kube-system"); !apierrors.IsForbidden(err) {
		t.Errorf("in another namespace: %v", err)
	}
	if _, err := robot.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("view shows secrets: %v", err)
	}
	may := func(client kubernetes.Interface, verb, resource string) bool {
		t.Helper()
		return must[*authorizationv1.SelfSubjectAccessReview](t)(client.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "default", Verb: verb, Resource: resource}},
		}, metav1.CreateOptions{})).Status.Allowed
	}
	if !may(robot, "list", "pods") || may(robot, "delete", "pods") || !may(a.admin, "delete", "pods") {
		t.Error("the review says otherwise than what is done")
	}
	other := must[*authorizationv1.SubjectAccessReview](t)(a.admin.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "system:serviceaccount:default:robot", ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "default", Verb: "get", Resource: "pods"}},
	}, metav1.CreateOptions{})).Status
	if !other.Allowed || !strings.Contains(other.Reason, `RBAC: allowed by RoleBinding "default/views"`) {
		t.Errorf("%+v", other)
	}
	rules := must[*authorizationv1.SelfSubjectRulesReview](t)(robot.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(),
		&authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "default"}}, metav1.CreateOptions{})).Status
	if len(rules.ResourceRules) < 5 || len(rules.NonResourceRules) == 0 {
		t.Errorf("%+v", rules)
	}
	if err := a.admin.RbacV1().RoleBindings("default").Delete(t.Context(), "views", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the role is taken back", func() bool { return apierrors.IsForbidden(listsPods(t, robot, "default")) })
}

// Nobody gives what he does not have.
func TestNoEscalation(t *testing.T) {
	a := newAccounts(t)
	robot := a.as(a.token(authenticationv1.TokenRequestSpec{}))
	a.give("admins", "admin")
	role := func(name, verb, resource string) error {
		_, err := robot.RbacV1().Roles("default").Create(t.Context(), &rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{verb}, APIGroups: []string{""}, Resources: []string{resource}}},
		}, metav1.CreateOptions{})
		return err
	}
	eventually(t, "admin holds", func() bool { return role("has", "get", "pods") == nil })
	if err := role("hasNot", "get", "nodes"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "attempting to grant RBAC permissions not currently held") || !strings.Contains(err.Error(), `Resources:["nodes"]`) {
		t.Errorf("more than admin has: %v", err)
	}
	bind := func(name, clusterRole string) error {
		_, err := robot.RbacV1().RoleBindings("default").Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Subjects:   []rbacv1.Subject{{Kind: "User", Name: "ann"}},
			RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: clusterRole},
		}, metav1.CreateOptions{})
		return err
	}
	if err := bind("view", "view"); err != nil {
		t.Errorf("less than admin: %v", err)
	}
	if err := bind("everything", "cluster-admin"); !apierrors.IsForbidden(err) {
		t.Errorf("more than admin: %v", err)
	}
	has := must[*rbacv1.Role](t)(robot.RbacV1().Roles("default").Get(t.Context(), "has", metav1.GetOptions{}))
	has.Rules[0].Resources = []string{"nodes"}
	if _, err := robot.RbacV1().Roles("default").Update(t.Context(), has, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a change to more: %v", err)
	}
	if err := bind("missing", "none"); !apierrors.IsForbidden(err) {
		t.Errorf("a role that is not there: %v", err)
	}
}
