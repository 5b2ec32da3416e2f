package apiserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// accounts is a server with the ServiceAccount robot, a pod of it and a Secret.
type accounts struct {
	t      *testing.T
	server *apiservertest.Server
	admin  *kubernetes.Clientset
	pod    *corev1.Pod
	secret *corev1.Secret
}

func newAccounts(t *testing.T) *accounts {
	server := apiservertest.StartIn(t, t.TempDir())
	a := &accounts{t: t, server: server, admin: kubernetes.NewForConfigOrDie(server.Config)}
	core := a.admin.CoreV1()
	must[*corev1.ServiceAccount](t)(core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}))
	p := pod("p")
	p.Spec.ServiceAccountName = "robot"
	a.pod = must[*corev1.Pod](t)(core.Pods("default").Create(t.Context(), p, metav1.CreateOptions{}))
	a.secret = must[*corev1.Secret](t)(core.Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, metav1.CreateOptions{}))
	return a
}

func (a *accounts) request(spec authenticationv1.TokenRequestSpec) (*authenticationv1.TokenRequest, error) {
	return a.admin.CoreV1().ServiceAccounts("default").CreateToken(a.t.Context(), "robot", &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
}

func (a *accounts) token(spec authenticationv1.TokenRequestSpec) string {
	a.t.Helper()
	return must[*authenticationv1.TokenRequest](a.t)(a.request(spec)).Status.Token
}

// as returns a client that shows a token to the server.
func (a *accounts) as(token string) *kubernetes.Clientset {
	return kubernetes.NewForConfigOrDie(&rest.Config{Host: a.server.URL, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: a.server.Authority.PEM()}})
}

func whoami(t *testing.T, client kubernetes.Interface) (*authenticationv1.UserInfo, error) {
	t.Helper()
	answer, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return &answer.Status.UserInfo, nil
}

func TestTokenIsItsAccount(t *testing.T) {
	a := newAccounts(t)
	who := must[*authenticationv1.UserInfo](t)(whoami(t, a.as(a.token(authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: a.pod.UID},
	}))))
	if who.Username != "system:serviceaccount:default:robot" || !slices.Equal(who.Groups, []string{"system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"}) ||
		!slices.Equal(who.Extra["authentication.kubernetes.io/pod-name"], []string{"p"}) || !slices.Equal(who.Extra["authentication.kubernetes.io/pod-uid"], []string{string(a.pod.UID)}) ||
		!strings.HasPrefix(who.Extra["authentication.kubernetes.io/credential-id"][0], "JTI=") {
		t.Errorf("%+v", who)
	}
	admin := must[*authenticationv1.UserInfo](t)(whoami(t, a.admin))
	if admin.Username != "system:apiserver" || !slices.Contains(admin.Groups, "system:masters") {
		t.Errorf("%+v", admin)
	}
}

func TestTokenRequests(t *testing.T) {
	a := newAccounts(t)
	node := must[*corev1.Node](t)(a.admin.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{}))
	must[*corev1.Pod](t)(a.admin.CoreV1().Pods("default").Create(t.Context(), pod("other"), metav1.CreateOptions{}))
	bound := func(kind, name string, uid types.UID) authenticationv1.TokenRequestSpec {
		return authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid}}
	}
	got := must[*authenticationv1.TokenRequest](t)(a.request(authenticationv1.TokenRequestSpec{}))
	if life := got.Status.ExpirationTimestamp.Sub(got.CreationTimestamp.Time).Seconds(); life < 3590 || life > 3610 || *got.Spec.ExpirationSeconds != 3600 || len(got.Spec.Audiences) != 1 || got.Name != "robot" {
		t.Errorf("%+v is good for %v seconds", got, life)
	}
	for _, spec := range []authenticationv1.TokenRequestSpec{bound("Pod", "p", ""), bound("Secret", "s", a.secret.UID), bound("Node", "n", node.UID), {ExpirationSeconds: ptr.To(int64(600)), Audiences: []string{"vault"}}} {
		if a.token(spec) == "" {
			t.Errorf("%+v: no token", spec)
		}
	}
	for want, spec := range map[string]authenticationv1.TokenRequestSpec{
		"may not specify a duration less than 10 minutes":       {ExpirationSeconds: ptr.To(int64(599))},
		"may not specify a duration larger than 2^32 seconds":   {ExpirationSeconds: ptr.To(int64(1<<32 + 1))},
		"cannot bind token to object of type /v1, Kind=Thing":   bound("Thing", "p", ""),
		`pods "none" not found`:                                 bound("Pod", "none", ""),
		`secrets "none" not found`:                              bound("Secret", "none", ""),
		"does not match the UID in record":                      bound("Pod", "p", "another"),
		`for serviceaccount "robot" to pod running with differ`: bound("Pod", "other", ""),
	} {
		if _, err := a.request(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", spec, err, want)
		}
	}
	if _, err := a.admin.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "none", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("for no account: %v", err)
	}
}

// A token is good while its account and what it is bound to exist, and for its
// audiences.
func TestTokenEnds(t *testing.T) {
	a := newAccounts(t)
	core, now := a.admin.CoreV1(), metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}
	bound := func(kind, name string) string {
		return a.token(authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name}})
	}
	plain, ofPod, ofSecret := a.token(authenticationv1.TokenRequestSpec{}), bound("Pod", "p"), bound("Secret", "s")
	good := func(what, token string, want bool) {
		t.Helper()
		_, err := whoami(t, a.as(token))
		if (err == nil) != want || err != nil && !apierrors.IsUnauthorized(err) {
			t.Errorf("%s: %v, want good: %v", what, err, want)
		}
	}
	good("unbound", plain, true)
	good("of the pod", ofPod, true)
	good("of the secret", ofSecret, true)
	good("for others", a.token(authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}}), false)
	good("no token", "hello", false)
	good("of a wrong signature", plain[:len(plain)-8]+"AAAAAAAA", false)

	if err := core.Pods("default").Delete(t.Context(), "p", now); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deleted pod's token is refused", func() bool { _, err := whoami(t, a.as(ofPod)); return apierrors.IsUnauthorized(err) })
	again := pod("p")
	again.Spec.ServiceAccountName = "robot"
	must[*corev1.Pod](t)(core.Pods("default").Create(t.Context(), again, metav1.CreateOptions{}))
	good("of the pod that was deleted, with another of its name", ofPod, false)
	good("of the new pod", bound("Pod", "p"), true)
	good("of the secret, still", ofSecret, true)
	if err := core.Secrets("default").Delete(t.Context(), "s", now); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deleted secret's token is refused", func() bool { _, err := whoami(t, a.as(ofSecret)); return apierrors.IsUnauthorized(err) })
	good("unbound, still", plain, true)
	if err := core.ServiceAccounts("default").Delete(t.Context(), "robot", now); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deleted account's token is refused", func() bool { _, err := whoami(t, a.as(plain)); return apierrors.IsUnauthorized(err) })
}

func TestTokenReview(t *testing.T) {
	a := newAccounts(t)
	review := func(token string, audiences ...string) authenticationv1.TokenReviewStatus {
		t.Helper()
		return must[*authenticationv1.TokenReview](t)(a.admin.AuthenticationV1().TokenReviews().Create(t.Context(),
			&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})).Status
	}
	plain, vault := a.token(authenticationv1.TokenRequestSpec{}), a.token(authenticationv1.TokenRequestSpec{Audiences: []string{"vault", "more"}})
	if got := review(plain); !got.Authenticated || got.User.Username != "system:serviceaccount:default:robot" || got.Error != "" {
		t.Errorf("%+v", got)
	}
	if got := review(vault, "vault", "third"); !got.Authenticated || !slices.Equal(got.Audiences, []string{"vault"}) {
		t.Errorf("%+v", got)
	}
	for token, want := range map[string]string{vault: "is invalid for the target audiences", "hello": "", plain[:len(plain)-8] + "AAAAAAAA": "signature"} {
		if got := review(token); got.Authenticated || !strings.Contains(got.Error, want) {
			t.Errorf("%+v, want %q", got, want)
		}
	}
	_, err := a.admin.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("no token: %v", err)
	}
}

// Who checks tokens himself finds the issuer's keys.
func TestOpenID(t *testing.T) {
	a := newAccounts(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.server.Authority.PEM())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	get := func(path, token string) (int, map[string]any) {
		t.Helper()
		request := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, a.server.URL+path, nil))
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response := must[*http.Response](t)(client.Do(request))
		defer response.Body.Close()
		var content map[string]any
		_ = json.Unmarshal(must[[]byte](t)(io.ReadAll(response.Body)), &content)
		return response.StatusCode, content
	}
	token := a.token(authenticationv1.TokenRequestSpec{})
	code, config := get("/.well-known/openid-configuration", token)
	if code != http.StatusOK || config["issuer"] != "https://kubernetes.default.svc.cluster.local" || !strings.HasSuffix(config["jwks_uri"].(string), "/openid/v1/jwks") {
		t.Errorf("%d %v", code, config)
	}
	code, keys := get("/openid/v1/jwks", token)
	if code != http.StatusOK || len(keys["keys"].([]any)) != 1 {
		t.Errorf("%d %v", code, keys)
	}
	if code, _ := get("/openid/v1/jwks", ""); code != http.StatusForbidden {
		t.Errorf("for everybody: %d", code)
	}
}

// eventually waits for what follows a change by way of the watch cache.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not yet: %s", what)
		}
	}
}
