package apiserver

import (
	"context"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// review is a resource of which nothing is kept: what is created is answered.
type review struct {
	singular string
	make     func() runtime.Object
	answer   func(ctx context.Context, asked runtime.Object) error
}

var (
	_ rest.Creater              = review{}
	_ rest.Scoper               = review{}
	_ rest.SingularNameProvider = review{}
)

// New implements rest.Storage.
func (r review) New() runtime.Object { return r.make() }

// Destroy implements rest.Storage.
func (review) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (review) NamespaceScoped() bool { return false }

// GetSingularName implements rest.SingularNameProvider.
func (r review) GetSingularName() string { return r.singular }

// Create implements rest.Creater.
func (r review) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := r.answer(ctx, obj); err != nil {
		return nil, err
	}
	return obj, nil
}

// newTokenReviews answers who the bearer of a token is.
func newTokenReviews(tokens authenticator.Token) review {
	return review{"tokenreview", object[authenticationv1.TokenReview], func(ctx context.Context, asked runtime.Object) error {
		r, ok := asked.(*authenticationv1.TokenReview)
		if !ok {
			return apierrors.NewBadRequest(fmt.Sprintf("not a TokenReview: %T", asked))
		}
		if r.Spec.Token == "" {
			return apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenReview").GroupKind(), "",
				field.ErrorList{field.Required(field.NewPath("spec", "token"), "the token to review")})
		}
		audiences := authenticator.Audiences(r.Spec.Audiences)
		if len(audiences) == 0 {
			audiences = authenticator.Audiences{issuerURL}
		}
		answer, ok, err := tokens.AuthenticateToken(authenticator.WithAudiences(ctx, audiences), r.Spec.Token)
		r.Status = authenticationv1.TokenReviewStatus{Authenticated: ok}
		switch {
		case err != nil:
			r.Status.Error = err.Error()
		case ok:
			r.Status.User, r.Status.Audiences = userInfo(answer.User), answer.Audiences
			if !slices.Contains(r.Status.User.Groups, user.AllAuthenticated) {
				r.Status.User.Groups = append(r.Status.User.Groups, user.AllAuthenticated)
			}
		}
		return nil
	}}
}

// newSelfSubjectReviews answers who asks.
func newSelfSubjectReviews() review {
	return review{"selfsubjectreview", object[authenticationv1.SelfSubjectReview], func(ctx context.Context, asked runtime.Object) error {
		r, ok := asked.(*authenticationv1.SelfSubjectReview)
		if !ok {
			return apierrors.NewBadRequest(fmt.Sprintf("not a SelfSubjectReview: %T", asked))
		}
		who, ok := request.UserFrom(ctx)
		if !ok {
			return apierrors.NewBadRequest("no user present on request")
		}
		r.Status.UserInfo = userInfo(who)
		return nil
	}}
}

func userInfo(who user.Info) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: who.GetName(), UID: who.GetUID(), Groups: slices.Clone(who.GetGroups())}
	for key, values := range who.GetExtra() {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}
