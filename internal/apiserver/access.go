package apiserver

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	authorizerunion "k8s.io/apiserver/pkg/authorization/union"

	"windlass.dev/windlass/internal/apiserver/rbac"
	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/pki"
)

// openPaths are for everybody: a machine can be watched without credentials, and
// one that wants to join has none yet; the joiner looks at its token.
var openPaths = []string{"/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*", "/version", join.Path}

// newAuthenticator knows the process's own requests, bearers of the authority's
// client certificates and of tokens, and calls everyone else anonymous.
func newAuthenticator(authority *pki.Authority, tokens authenticator.Token) authenticator.Request {
	options := x509request.DefaultVerifyOptions()
	options.Roots = authority.Pool()
	certificates := newVerified(x509request.New(options, x509request.CommonNameUserConversion))
	return union.NewFailOnError(
		authenticator.RequestFunc(authenticateLoopback),
		group.NewAuthenticatedGroupAdder(union.NewFailOnError(certificates, bearertoken.New(tokens), websocket.NewProtocolAuthenticator(tokens))),
		anonymous.NewAuthenticator(nil),
	)
}

func authenticateLoopback(request *http.Request) (*authenticator.Response, bool, error) {
	if !fromLoopback(request.Context()) {
		return nil, false, nil
	}
	return &authenticator.Response{User: loopbackUser}, true, nil
}

// newAuthorizer lets masters do everything, nodes what their work needs, everybody
// use the open paths, and who has a role what that allows.
func newAuthorizer(nodes nodeAuthorizer, roles rbac.Source) (authorizer.Authorizer, error) {
	open, err := path.NewAuthorizer(openPaths)
	if err != nil {
		return nil, fmt.Errorf("authorize the open paths: %w", err)
	}
	return authorizerunion.New(
		authorizerunion.NamedAuthorizer{AuthorizerName: "masters", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)},
		authorizerunion.NamedAuthorizer{AuthorizerName: "node", Authorizer: authorizer.AuthorizerFunc(nodes.Authorize)},
		authorizerunion.NamedAuthorizer{AuthorizerName: "open", Authorizer: open},
		authorizerunion.NamedAuthorizer{AuthorizerName: "rbac", Authorizer: rbac.Authorizer(roles)},
	)
}

// verifiedFor is how long a certificate that was verified is taken as good. The
// connection proves at its start that the client holds the key.
const verifiedFor = time.Minute

// verified remembers who bears which certificate. A connection's requests share
// its parsed certificates, so their addresses serve as keys.
type verified struct {
	inner authenticator.Request

	mu    sync.Mutex
	known map[*x509.Certificate]verdict
}

type verdict struct {
	response *authenticator.Response
	until    time.Time
}

func newVerified(inner authenticator.Request) *verified {
	return &verified{inner: inner, known: map[*x509.Certificate]verdict{}}
}

// AuthenticateRequest implements authenticator.Request.
func (v *verified) AuthenticateRequest(request *http.Request) (*authenticator.Response, bool, error) {
	if request.TLS == nil || len(request.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	certificate, now := request.TLS.PeerCertificates[0], time.Now()
	v.mu.Lock()
	found, ok := v.known[certificate]
	v.mu.Unlock()
	if ok && now.Before(found.until) {
		copied := *found.response
		return &copied, true, nil
	}
	response, ok, err := v.inner.AuthenticateRequest(request)
	if err != nil || !ok {
		return nil, false, err
	}
	until := now.Add(verifiedFor)
	if certificate.NotAfter.Before(until) {
		until = certificate.NotAfter
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for old, verdict := range v.known {
		if now.After(verdict.until) {
			delete(v.known, old)
		}
	}
	v.known[certificate] = verdict{response, until}
	copied := *response
	return &copied, true, nil
}
