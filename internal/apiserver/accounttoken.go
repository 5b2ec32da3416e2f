package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"windlass.dev/windlass/internal/apiserver/token"
)

// issuerURL names who issues the tokens of ServiceAccounts, and is the audience
// of those for the API.
const issuerURL = "https://kubernetes.default.svc.cluster.local"

// deletionLeeway is how long an object is taken for present beyond the end that
// its deletion was given.
const deletionLeeway = time.Minute

// accountTokens knows the bearers of ServiceAccounts' tokens.
type accountTokens struct {
	issuer                         *token.Issuer
	accounts, pods, secrets, nodes rest.Getter
}

var _ authenticator.Token = accountTokens{}

func newAccountTokens(cfg Config, opened map[string]resource) (accountTokens, error) {
	key, err := cfg.Authority.SigningKey()
	if err != nil {
		return accountTokens{}, err
	}
	issuer, err := token.NewIssuer(issuerURL, key)
	return accountTokens{
		issuer:   issuer,
		accounts: opened["serviceaccounts"].Store,
		pods:     opened["pods"].Store,
		secrets:  opened["secrets"].Store,
		nodes:    opened["nodes"].Store,
	}, err
}

// AuthenticateToken implements authenticator.Token. A token is good for the
// audiences of ctx, or the API's, while its ServiceAccount and what it is bound
// to exist.
func (t accountTokens) AuthenticateToken(ctx context.Context, text string) (*authenticator.Response, bool, error) {
	claims, err := t.issuer.Read(text, time.Now())
	if errors.Is(err, token.ErrForeign) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	wanted, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		wanted = authenticator.Audiences{t.issuer.URL()}
	}
	audiences := authenticator.Audiences(claims.Audience).Intersect(wanted)
	if len(audiences) == 0 {
		return nil, false, fmt.Errorf("token audiences %q is invalid for the target audiences %q", claims.Audience, wanted)
	}
	if err := t.stillThere(ctx, claims); err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: bearer(claims).UserInfo(), Audiences: audiences}, true, nil
}

func bearer(claims *token.Claims) *serviceaccount.ServiceAccountInfo {
	about := &claims.Kubernetes
	info := &serviceaccount.ServiceAccountInfo{
		Namespace: about.Namespace, Name: about.ServiceAccount.Name, UID: about.ServiceAccount.UID,
	}
	if claims.ID != "" {
		info.CredentialID = "JTI=" + claims.ID
	}
	if about.Pod != nil {
		info.PodName, info.PodUID = about.Pod.Name, about.Pod.UID
	}
	if about.Node != nil {
		info.NodeName, info.NodeUID = about.Node.Name, about.Node.UID
	}
	return info
}

// stillThere returns an error if something has gone that a token depends on.
func (t accountTokens) stillThere(ctx context.Context, claims *token.Claims) error {
	about := &claims.Kubernetes
	for _, need := range []struct {
		what   string
		from   rest.Getter
		object *token.Object
	}{
		{"service account", t.accounts, &about.ServiceAccount},
		{"pod", t.pods, about.Pod},
		{"secret", t.secrets, about.Secret},
		{"node", t.nodes, about.Node},
	} {
		if need.object == nil || need.what == "node" && about.Pod != nil { // a pod's token ends with the pod
			continue
		}
		if err := find(request.WithNamespace(ctx, about.Namespace), need.from, *need.object); err != nil {
			return fmt.Errorf("%s %s/%s: %w", need.what, about.Namespace, need.object.Name, err)
		}
	}
	return nil
}

// find returns an error if an object does not exist any more. The watch cache is
// asked first; what it does not have may be too new for it.
func find(ctx context.Context, from rest.Getter, wanted token.Object) error {
	err := error(nil)
	for _, version := range []string{"0", ""} {
		var found runtime.Object
		if found, err = from.Get(ctx, wanted.Name, &metav1.GetOptions{ResourceVersion: version}); err != nil {
			continue
		}
		m := metaOf(found)
		switch deleted := m.GetDeletionTimestamp(); {
		case m.GetUID() != types.UID(wanted.UID):
			err = errors.New("it was deleted, and another one of its name was made")
			continue
		case deleted != nil && time.Since(deleted.Time) > deletionLeeway:
			return errors.New("it has been deleted")
		}
		return nil
	}
	if apierrors.IsNotFound(err) {
		return errors.New("it has been deleted")
	}
	return err
}

// publish serves what others need to check tokens.
func (t accountTokens) publish(server *genericapiserver.GenericAPIServer, cfg Config) error {
	const keysPath = "/openid/v1/jwks"
	keys, err := t.issuer.Keys()
	if err != nil {
		return fmt.Errorf("keys of tokens: %w", err)
	}
	discovery, err := t.issuer.Discovery("https://" + net.JoinHostPort(cfg.AdvertiseAddress.Unmap().String(), strconv.Itoa(cfg.port())) + keysPath)
	if err != nil {
		return fmt.Errorf("discovery of tokens: %w", err)
	}
	serve := func(path, contentType string, content []byte) {
		server.Handler.NonGoRestfulMux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_, _ = w.Write(content)
		})
	}
	serve("/.well-known/openid-configuration", "application/json", discovery)
	serve(keysPath, "application/jwk-set+json", keys)
	return nil
}
