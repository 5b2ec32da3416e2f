package apiserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"windlass.dev/windlass/internal/apiserver/token"
)

const (
	// tokenSeconds is the life of a token whose request does not say.
	tokenSeconds = int64(60 * 60)

	leastTokenSeconds = int64(10 * 60)
	mostTokenSeconds  = int64(1 << 32)
)

// tokenRequest is the token subresource of ServiceAccounts, which issues tokens.
type tokenRequest struct{ tokens accountTokens }

var (
	_ rest.NamedCreater             = tokenRequest{}
	_ rest.GroupVersionKindProvider = tokenRequest{}
)

// New implements rest.Storage.
func (tokenRequest) New() runtime.Object { return &authenticationv1.TokenRequest{} }

// Destroy implements rest.Storage.
func (tokenRequest) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (tokenRequest) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
}

// Create implements rest.NamedCreater.
func (r tokenRequest) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	wanted, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenRequest object: %T", obj))
	}
	found, err := r.tokens.accounts.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	account := found.(*corev1.ServiceAccount)
	answer := wanted.DeepCopy()
	if err := r.complete(answer, account); err != nil {
		return nil, err
	}
	if validate != nil {
		if err := validate(ctx, answer.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	claims := accountClaims(account, answer, time.Now())
	if err := r.bind(ctx, &claims, answer.Spec.BoundObjectRef); err != nil {
		return nil, err
	}
	text, err := r.tokens.issuer.Sign(claims)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("failed to generate token: %w", err))
	}
	answer.Status = authenticationv1.TokenRequestStatus{Token: text, ExpirationTimestamp: metav1.NewTime(claims.Expiry.Time())}
	return answer, nil
}

// complete fills in what a request leaves open, and checks it.
func (r tokenRequest) complete(wanted *authenticationv1.TokenRequest, account *corev1.ServiceAccount) error {
	if wanted.Name == "" {
		wanted.Name = account.Name
	}
	if wanted.Namespace == "" {
		wanted.Namespace = account.Namespace
	}
	if wanted.Name != account.Name || wanted.Namespace != account.Namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("the name and namespace of the TokenRequest (%s/%s) do not match those of the service account (%s/%s)", wanted.Namespace, wanted.Name, account.Namespace, account.Name))
	}
	wanted.CreationTimestamp = metav1.Now()
	spec := &wanted.Spec
	if len(spec.Audiences) == 0 {
		spec.Audiences = []string{r.tokens.issuer.URL()}
	}
	if spec.ExpirationSeconds == nil {
		seconds := tokenSeconds
		spec.ExpirationSeconds = &seconds
	}
	var faults field.ErrorList
	at, seconds := field.NewPath("spec", "expirationSeconds"), *spec.ExpirationSeconds
	if seconds < leastTokenSeconds {
		faults = append(faults, field.Invalid(at, seconds, "may not specify a duration less than 10 minutes"))
	}
	if seconds > mostTokenSeconds {
		faults = append(faults, field.Invalid(at, seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(faults) > 0 {
		return apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), wanted.Name, faults)
	}
	return nil
}

func accountClaims(account *corev1.ServiceAccount, wanted *authenticationv1.TokenRequest, now time.Time) token.Claims {
	claims := token.Claims{Claims: jwt.Claims{
		Subject:   serviceaccount.MakeUsername(account.Namespace, account.Name),
		Audience:  wanted.Spec.Audiences,
		ID:        string(uuid.NewUUID()),
		IssuedAt:  jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now),
		Expiry:    jwt.NewNumericDate(now.Add(time.Duration(*wanted.Spec.ExpirationSeconds) * time.Second)),
	}}
	claims.Kubernetes.Namespace = account.Namespace
	claims.Kubernetes.ServiceAccount = token.Object{Name: account.Name, UID: string(account.UID)}
	return claims
}

// bind has a token end with an object.
func (r tokenRequest) bind(ctx context.Context, claims *token.Claims, to *authenticationv1.BoundObjectReference) error {
	if to == nil {
		return nil
	}
	kinds := map[schema.GroupVersionKind]struct {
		from rest.Getter
		into **token.Object
	}{
		corev1.SchemeGroupVersion.WithKind("Pod"):    {r.tokens.pods, &claims.Kubernetes.Pod},
		corev1.SchemeGroupVersion.WithKind("Secret"): {r.tokens.secrets, &claims.Kubernetes.Secret},
		corev1.SchemeGroupVersion.WithKind("Node"):   {r.tokens.nodes, &claims.Kubernetes.Node},
	}
	gvk := schema.FromAPIVersionAndKind(to.APIVersion, to.Kind)
	kind, ok := kinds[gvk]
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s (supported: v1 Pod, v1 Secret, v1 Node)", gvk))
	}
	found, err := kind.from.Get(ctx, to.Name, &metav1.GetOptions{})
	if apierrors.IsNotFound(err) { // the store tells the request's resource
		return apierrors.NewNotFound(schema.GroupResource{Resource: map[string]string{"Pod": "pods", "Secret": "secrets", "Node": "nodes"}[to.Kind]}, to.Name)
	}
	if err != nil {
		return err
	}
	uid := metaOf(found).GetUID()
	if to.UID != "" && to.UID != uid {
		return apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, to.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", to.UID))
	}
	*kind.into = &token.Object{Name: to.Name, UID: string(uid)}
	pod, ok := found.(*corev1.Pod)
	if !ok {
		return nil
	}
	who, _ := request.UserFrom(ctx)
	if node, ok := nodeOf(who); ok && pod.Spec.NodeName != node {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts/token"}, claims.Kubernetes.ServiceAccount.Name,
			errors.New("node requested token bound to a pod scheduled on a different node"))
	}
	if name := claims.Kubernetes.ServiceAccount.Name; pod.Spec.ServiceAccountName != name {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", name))
	}
	if pod.Spec.NodeName != "" {
		claims.Kubernetes.Node = &token.Object{Name: pod.Spec.NodeName, UID: string(r.nodeUID(ctx, pod.Spec.NodeName))}
	}
	return nil
}

// nodeUID is "" for a node that is not there.
func (r tokenRequest) nodeUID(ctx context.Context, name string) types.UID {
	found, err := r.tokens.nodes.Get(ctx, name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return ""
	}
	return metaOf(found).GetUID()
}
