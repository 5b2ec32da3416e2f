package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

func newIssuer(t testing.TB, url string) *Issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewIssuer(url, key)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func claims(from, until time.Time) Claims {
	c := Claims{Claims: jwt.Claims{
		Subject: "system:serviceaccount:ns:robot", Audience: jwt.Audience{"api"}, ID: "1",
		IssuedAt: jwt.NewNumericDate(from), NotBefore: jwt.NewNumericDate(from), Expiry: jwt.NewNumericDate(until),
	}}
	c.Kubernetes.Namespace, c.Kubernetes.ServiceAccount = "ns", Object{"robot", "uid"}
	c.Kubernetes.Pod = &Object{"p", "uid-p"}
	return c
}

func TestReadsWhatItSigns(t *testing.T) {
	now, i := time.Unix(1_800_000_000, 0), newIssuer(t, "https://here")
	text, err := i.Sign(claims(now, now.Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := i.Read(text, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if got.Kubernetes.ServiceAccount != (Object{"robot", "uid"}) || *got.Kubernetes.Pod != (Object{"p", "uid-p"}) || got.Kubernetes.Secret != nil || got.Issuer != "https://here" {
		t.Errorf("%+v", got)
	}
}

func TestRefusals(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	i, other, namesake := newIssuer(t, "https://here"), newIssuer(t, "https://there"), newIssuer(t, "https://here")
	sign := func(i *Issuer, c Claims) string {
		text, err := i.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := claims(now, now.Add(time.Hour))
	endless := good
	endless.Expiry = nil
	text := sign(i, good)
	parts := strings.Split(text, ".")
	stranger := strings.Split(sign(namesake, claims(now, now.Add(2*time.Hour))), ".")
	for _, test := range []struct{ what, text, want string }{
		{"no token", "hello", ErrForeign.Error()},
		{"empty", "", ErrForeign.Error()},
		{"another issuer's", sign(other, good), ErrForeign.Error()},
		{"another key", sign(namesake, good), "signature is not this issuer's"},
		{"other claims under the signature", parts[0] + "." + stranger[1] + "." + parts[2], "signature is not this issuer's"},
		{"no algorithm", "eyJhbGciOiJub25lIn0." + parts[1] + ".", ErrForeign.Error()},
		{"over", sign(i, claims(now.Add(-time.Hour), now.Add(-2*leeway))), "has expired"},
		{"not begun", sign(i, claims(now.Add(2*leeway), now.Add(time.Hour))), "not valid yet"},
		{"endless", sign(i, endless), "has no end"},
	} {
		_, err := i.Read(test.text, now)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", test.what, err, test.want)
		}
		if foreign := test.want == ErrForeign.Error(); foreign != errors.Is(err, ErrForeign) {
			t.Errorf("%s: foreign is %v", test.what, !foreign)
		}
	}
}

// Others check a token by the published keys.
func TestKeys(t *testing.T) {
	i, now := newIssuer(t, "https://here"), time.Now()
	content, err := i.Keys()
	if err != nil || strings.Contains(string(content), `"d"`) {
		t.Fatalf("%s, %v: the private key is not for others", content, err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(content, &set); err != nil {
		t.Fatal(err)
	}
	text, err := i.Sign(claims(now, now.Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var got Claims
	if err := parsed.Claims(set, &got); err != nil || got.Subject != "system:serviceaccount:ns:robot" {
		t.Errorf("%+v, %v", got, err)
	}
	config, err := i.Discovery("https://here/keys")
	if err != nil || !strings.Contains(string(config), `"jwks_uri":"https://here/keys"`) || !strings.Contains(string(config), `"issuer":"https://here"`) {
		t.Errorf("%s, %v", config, err)
	}
}

func FuzzRead(f *testing.F) {
	i, now := newIssuer(f, "https://here"), time.Now()
	text, err := i.Sign(claims(now, now.Add(time.Hour)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("e30.e30.")
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2hlcmUifQ.AAAA")
	f.Fuzz(func(t *testing.T, other string) {
		if claims, err := i.Read(other, now); err == nil && (other != text && claims.Issuer != "https://here") {
			t.Errorf("read %q", other)
		}
	})
}
