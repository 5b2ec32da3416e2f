package rbac

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Source has the roles and bindings. An error of Role or ClusterRole that tells
// that there is none is one of the API's (apierrors.IsNotFound).
type Source interface {
	ClusterRoleBindings(ctx context.Context) ([]rbacv1.ClusterRoleBinding, error)
	RoleBindings(ctx context.Context, namespace string) ([]rbacv1.RoleBinding, error)
	ClusterRoles(ctx context.Context) ([]rbacv1.ClusterRole, error)
	ClusterRole(ctx context.Context, name string) (*rbacv1.ClusterRole, error)
	Role(ctx context.Context, namespace, name string) (*rbacv1.Role, error)
}

// Authorizer returns what allows a request that a rule of the user's roles
// allows, and has no opinion on others.
func Authorizer(source Source) authorizer.Authorizer {
	return authorizer.AuthorizerFunc(func(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		why := ""
		err := visit(ctx, source, a.GetUser(), a.GetNamespace(), func(rule *rbacv1.PolicyRule, by string) bool {
			if allows(rule, a) {
				why = "RBAC: allowed by " + by
			}
			return why == ""
		})
		if why != "" {
			return authorizer.DecisionAllow, why, nil
		}
		if err != nil {
			return authorizer.DecisionNoOpinion, "RBAC: " + err.Error(), nil
		}
		return authorizer.DecisionNoOpinion, "", nil
	})
}

// RulesOf returns every rule that a user has in a namespace, those of the whole
// cluster included; "" is those alone. Rules come also with an error, which tells
// of roles that could not be found.
func RulesOf(ctx context.Context, source Source, who user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	err := visit(ctx, source, who, namespace, func(rule *rbacv1.PolicyRule, _ string) bool {
		rules = append(rules, *rule)
		return true
	})
	return rules, err
}

// RulesOfRole returns the rules of the role that a binding in a namespace ("" for
// the cluster's) refers to.
func RulesOfRole(ctx context.Context, source Source, ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "Role":
		role, err := source.Role(ctx, namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	case "ClusterRole":
		role, err := source.ClusterRole(ctx, ref.Name)
		if err != nil {
			return nil, err
		}
		return aggregated(ctx, source, role)
	}
	return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
}

// aggregated returns the rules of a role and of those that it is made up of.
func aggregated(ctx context.Context, source Source, role *rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	if role.AggregationRule == nil {
		return role.Rules, nil
	}
	all, err := source.ClusterRoles(ctx)
	if err != nil {
		return nil, err
	}
	rules := slices.Clone(role.Rules)
	for i := range all {
		if part := &all[i]; part.Name != role.Name && selected(role.AggregationRule, part.Labels) {
			rules = append(rules, part.Rules...)
		}
	}
	return rules, nil
}

func selected(rule *rbacv1.AggregationRule, set map[string]string) bool {
	return slices.ContainsFunc(rule.ClusterRoleSelectors, func(s metav1.LabelSelector) bool {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		return err == nil && selector.Matches(labels.Set(set))
	})
}

// visit shows the rules of a user one by one, with what gives them, until see
// returns false.
func visit(ctx context.Context, source Source, who user.Info, namespace string, see func(rule *rbacv1.PolicyRule, by string) bool) error {
	if who == nil {
		return nil
	}
	v := visitor{ctx: ctx, source: source, who: who, see: see}
	clusters, err := source.ClusterRoleBindings(ctx)
	v.note(err)
	for i := range clusters {
		b := &clusters[i]
		if !v.binding("ClusterRoleBinding", b.Name, "", b.Subjects, b.RoleRef) {
			return nil
		}
	}
	if namespace == "" {
		return errors.Join(v.errs...)
	}
	bindings, err := source.RoleBindings(ctx, namespace)
	v.note(err)
	for i := range bindings {
		b := &bindings[i]
		if !v.binding("RoleBinding", b.Namespace+"/"+b.Name, namespace, b.Subjects, b.RoleRef) {
			return nil
		}
	}
	return errors.Join(v.errs...)
}

type visitor struct {
	ctx    context.Context
	source Source
	who    user.Info
	see    func(*rbacv1.PolicyRule, string) bool
	errs   []error
}

// note keeps an error. A role that is not there gives nothing, and only that.
func (v *visitor) note(err error) {
	if err != nil {
		v.errs = append(v.errs, err)
	}
}

// binding shows the rules that a binding gives the user, and returns false if
// there is enough.
func (v *visitor) binding(kind, name, namespace string, subjects []rbacv1.Subject, ref rbacv1.RoleRef) bool {
	i := slices.IndexFunc(subjects, func(s rbacv1.Subject) bool { return concerns(&s, namespace, v.who) })
	if i < 0 {
		return true
	}
	rules, err := RulesOfRole(v.ctx, v.source, ref, namespace)
	if apierrors.IsNotFound(err) {
		err = fmt.Errorf("%s.rbac.authorization.k8s.io %q not found", strings.ToLower(ref.Kind), ref.Name)
	}
	v.note(err)
	subject := subjects[i].Name
	if subjects[i].Namespace != "" {
		subject += "/" + subjects[i].Namespace
	}
	by := fmt.Sprintf("%s %q of %s %q to %s %q", kind, name, ref.Kind, ref.Name, subjects[i].Kind, subject)
	for j := range rules {
		if !v.see(&rules[j], by) {
			return false
		}
	}
	return true
}
