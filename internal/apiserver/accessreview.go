package apiserver

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"windlass.dev/windlass/internal/apiserver/rbac"
)

// newAccessReviews answers who may do what, by resource.
func newAccessReviews(may authorizer.Authorizer, roles rbac.Source) map[string]review {
	return map[string]review{
		"subjectaccessreviews": {"subjectaccessreview", object[authorizationv1.SubjectAccessReview], func(ctx context.Context, asked runtime.Object) error {
			r, ok := asked.(*authorizationv1.SubjectAccessReview)
			if !ok {
				return notA("SubjectAccessReview", asked)
			}
			return reviewSubject(ctx, may, "SubjectAccessReview", &r.Spec, &r.Status)
		}},
		"selfsubjectaccessreviews": {"selfsubjectaccessreview", object[authorizationv1.SelfSubjectAccessReview], func(ctx context.Context, asked runtime.Object) error {
			r, ok := asked.(*authorizationv1.SelfSubjectAccessReview)
			who, known := request.UserFrom(ctx)
			if !ok || !known {
				return notA("SelfSubjectAccessReview", asked)
			}
			return reviewAccess(ctx, may, "SelfSubjectAccessReview", who, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes, &r.Status)
		}},
		"selfsubjectrulesreviews": {"selfsubjectrulesreview", object[authorizationv1.SelfSubjectRulesReview], func(ctx context.Context, asked runtime.Object) error {
			r, ok := asked.(*authorizationv1.SelfSubjectRulesReview)
			who, known := request.UserFrom(ctx)
			if !ok || !known {
				return notA("SelfSubjectRulesReview", asked)
			}
			if r.Spec.Namespace == "" {
				return apierrors.NewBadRequest("no namespace on request")
			}
			rules, err := rbac.RulesOf(ctx, roles, who, r.Spec.Namespace)
			r.Status = rulesStatus(rules)
			if err != nil {
				r.Status.EvaluationError, r.Status.Incomplete = err.Error(), true
			}
			return nil
		}},
	}
}

// newLocalAccessReviews answers who may do what in a namespace.
func newLocalAccessReviews(may authorizer.Authorizer) localReview {
	return localReview{review{"localsubjectaccessreview", object[authorizationv1.LocalSubjectAccessReview], func(ctx context.Context, asked runtime.Object) error {
		r, ok := asked.(*authorizationv1.LocalSubjectAccessReview)
		if !ok {
			return notA("LocalSubjectAccessReview", asked)
		}
		if about := r.Spec.ResourceAttributes; about == nil || about.Namespace != request.NamespaceValue(ctx) {
			return apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must be the namespace of the request, %q", request.NamespaceValue(ctx)))
		}
		return reviewSubject(ctx, may, "LocalSubjectAccessReview", &r.Spec, &r.Status)
	}}}
}

// localReview is a review in a namespace.
type localReview struct{ review }

// NamespaceScoped implements rest.Scoper.
func (localReview) NamespaceScoped() bool { return true }

func notA(kind string, obj runtime.Object) error {
	return apierrors.NewBadRequest(fmt.Sprintf("not a %s of a known user: %T", kind, obj))
}

func reviewSubject(ctx context.Context, may authorizer.Authorizer, kind string, spec *authorizationv1.SubjectAccessReviewSpec, status *authorizationv1.SubjectAccessReviewStatus) error {
	if spec.User == "" && len(spec.Groups) == 0 {
		return invalidReview(kind, field.Invalid(field.NewPath("spec", "user"), spec.User, "at least one of user or group must be specified"))
	}
	who := &user.DefaultInfo{Name: spec.User, UID: spec.UID, Groups: spec.Groups, Extra: map[string][]string{}}
	for key, values := range spec.Extra {
		who.Extra[key] = values
	}
	return reviewAccess(ctx, may, kind, who, spec.ResourceAttributes, spec.NonResourceAttributes, status)
}

func reviewAccess(ctx context.Context, may authorizer.Authorizer, kind string, who user.Info, to *authorizationv1.ResourceAttributes, at *authorizationv1.NonResourceAttributes, status *authorizationv1.SubjectAccessReviewStatus) error {
	asked := authorizer.AttributesRecord{User: who}
	switch {
	case (to == nil) == (at == nil):
		return invalidReview(kind, field.Invalid(field.NewPath("spec", "resourceAttributes"), to, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	case to != nil:
		asked.ResourceRequest, asked.Verb, asked.Namespace, asked.Name = true, to.Verb, to.Namespace, to.Name
		asked.APIGroup, asked.APIVersion, asked.Resource, asked.Subresource = to.Group, to.Version, to.Resource, to.Subresource
	default:
		asked.Verb, asked.Path = at.Verb, at.Path
	}
	decision, why, err := may.Authorize(ctx, asked)
	*status = authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow, Denied: decision == authorizer.DecisionDeny, Reason: why,
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return nil
}

func invalidReview(kind string, fault *field.Error) error {
	return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind(kind).GroupKind(), "", field.ErrorList{fault})
}

func rulesStatus(rules []rbacv1.PolicyRule) authorizationv1.SubjectRulesReviewStatus {
	status := authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	for i := range rules {
		rule := &rules[i]
		if len(rule.Resources) > 0 {
			status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames})
		}
		if len(rule.NonResourceURLs) > 0 {
			status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	return status
}
