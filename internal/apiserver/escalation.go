package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/component-helpers/auth/rbac/validation"

	"windlass.dev/windlass/internal/apiserver/rbac"
)

// noEscalation keeps users from giving, by roles and bindings, what they do not
// have themselves, unless they may "escalate" roles or "bind" them
// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping).
type noEscalation struct {
	*admission.Handler
	roles rbac.Source
	may   authorizer.Authorizer
}

// Validate implements admission.ValidationInterface.
func (n noEscalation) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().Group != rbacv1.GroupName || slices.Contains(a.GetUserInfo().GetGroups(), user.SystemPrivilegedGroup) {
		return nil
	}
	old := a.GetOldObject()
	switch o := a.GetObject().(type) {
	case *rbacv1.Role:
		if before, ok := old.(*rbacv1.Role); ok && equality.Semantic.DeepEqual(before.Rules, o.Rules) {
			return nil
		}
		return n.check(ctx, a, "escalate", o.Name, o.Namespace, o.Rules)
	case *rbacv1.ClusterRole:
		if before, ok := old.(*rbacv1.ClusterRole); ok && equality.Semantic.DeepEqual(before.Rules, o.Rules) && equality.Semantic.DeepEqual(before.AggregationRule, o.AggregationRule) {
			return nil
		}
		rules := o.Rules
		if o.AggregationRule != nil { // what it is made up of can become anything
			rules = everything
		}
		return n.check(ctx, a, "escalate", o.Name, "", rules)
	case *rbacv1.RoleBinding:
		if before, ok := old.(*rbacv1.RoleBinding); ok && equality.Semantic.DeepEqual(before.Subjects, o.Subjects) && before.RoleRef == o.RoleRef {
			return nil
		}
		return n.checkBinding(ctx, a, o.RoleRef, o.Namespace)
	case *rbacv1.ClusterRoleBinding:
		if before, ok := old.(*rbacv1.ClusterRoleBinding); ok && equality.Semantic.DeepEqual(before.Subjects, o.Subjects) && before.RoleRef == o.RoleRef {
			return nil
		}
		return n.checkBinding(ctx, a, o.RoleRef, "")
	}
	return nil
}

var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

func (n noEscalation) checkBinding(ctx context.Context, a admission.Attributes, ref rbacv1.RoleRef, namespace string) error {
	if n.allowed(ctx, a, "bind", strings.ToLower(ref.Kind)+"s", ref.Name, namespace) {
		return nil
	}
	rules, err := rbac.RulesOfRole(ctx, n.roles, ref, namespace)
	if err != nil {
		return refusal(a, fmt.Errorf("the role that is bound cannot be looked into: %w", err))
	}
	return n.check(ctx, a, "", ref.Name, namespace, rules)
}

// check refuses rules that the user does not have in a namespace himself, unless
// he may do verb.
func (n noEscalation) check(ctx context.Context, a admission.Attributes, verb, name, namespace string, rules []rbacv1.PolicyRule) error {
	if verb != "" && n.allowed(ctx, a, verb, a.GetResource().Resource, name, namespace) {
		return nil
	}
	own, err := rbac.RulesOf(ctx, n.roles, a.GetUserInfo(), namespace)
	if covered, missing := validation.Covers(own, rules); !covered {
		var list []string
		for _, rule := range missing {
			list = append(list, fmt.Sprintf("{APIGroups:%q, Resources:%q, ResourceNames:%q, NonResourceURLs:%q, Verbs:%q}", rule.APIGroups, rule.Resources, rule.ResourceNames, rule.NonResourceURLs, rule.Verbs))
		}
		slices.Sort(list)
		text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", a.GetUserInfo().GetName(), a.GetUserInfo().GetGroups(), strings.Join(list, "\n"))
		if err != nil {
			text += "; resolution errors: " + err.Error()
		}
		return refusal(a, errors.New(text))
	}
	return nil
}

func refusal(a admission.Attributes, why error) error {
	return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), why)
}

func (n noEscalation) allowed(ctx context.Context, a admission.Attributes, verb, resource, name, namespace string) bool {
	decision, _, _ := n.may.Authorize(ctx, authorizer.AttributesRecord{
		User: a.GetUserInfo(), Verb: verb, Namespace: namespace, Name: name, ResourceRequest: true,
		APIGroup: rbacv1.GroupName, APIVersion: "v1", Resource: resource,
	})
	return decision == authorizer.DecisionAllow
}
