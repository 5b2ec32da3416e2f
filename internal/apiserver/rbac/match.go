package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// allows: a rule allows a request.
func allows(rule *rbacv1.PolicyRule, a authorizer.Attributes) bool {
	if !oneOf(rule.Verbs, a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return slices.ContainsFunc(rule.NonResourceURLs, func(url string) bool { return covers(url, a.GetPath()) })
	}
	return oneOf(rule.APIGroups, a.GetAPIGroup()) &&
		slices.ContainsFunc(rule.Resources, func(resource string) bool { return names(resource, a.GetResource(), a.GetSubresource()) }) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, a.GetName()))
}

func oneOf(allowed []string, asked string) bool {
	return slices.Contains(allowed, asked) || slices.Contains(allowed, "*")
}

// covers: a path of a rule, which may end in "*", has a path below it.
func covers(rule, path string) bool {
	prefix, open := strings.CutSuffix(rule, "*")
	return rule == path || open && strings.HasPrefix(path, prefix)
}

// names: a rule's resource is the one that is asked for; "*/scale" is that
// subresource of any resource.
func names(rule, resource, subresource string) bool {
	if rule == rbacv1.ResourceAll {
		return true
	}
	if subresource == "" {
		return rule == resource
	}
	return rule == resource+"/"+subresource || rule == "*/"+subresource
}

// concerns: a subject of a binding in a namespace ("" for the cluster's) is a user.
func concerns(subject *rbacv1.Subject, namespace string, who user.Info) bool {
	switch subject.Kind {
	case rbacv1.UserKind:
		return subject.Name == who.GetName()
	case rbacv1.GroupKind:
		return slices.Contains(who.GetGroups(), subject.Name)
	case rbacv1.ServiceAccountKind:
		if subject.Namespace != "" {
			namespace = subject.Namespace
		}
		return namespace != "" && serviceaccount.MatchesUsername(namespace, subject.Name, who.GetName())
	}
	return false
}
