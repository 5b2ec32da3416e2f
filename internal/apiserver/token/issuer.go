package token

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Object is an object that a token speaks of.
type Object struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// Claims are what a token says.
type Claims struct {
	jwt.Claims

	Kubernetes struct {
		Namespace      string  `json:"namespace,omitempty"`
		ServiceAccount Object  `json:"serviceaccount"`
		Pod            *Object `json:"pod,omitempty"`    // that the token ends with
		Secret         *Object `json:"secret,omitempty"` // likewise
		Node           *Object `json:"node,omitempty"`   // likewise, or the Pod's
	} `json:"kubernetes.io"`
}

// ErrForeign is what Read returns for what is no token of this issuer, and may be
// somebody else's.
var ErrForeign = errors.New("not a token of this issuer")

// leeway is for clocks that differ.
const leeway = time.Minute

// Issuer signs tokens and reads those that it has signed.
type Issuer struct {
	url    string
	signer jose.Signer
	key    jose.JSONWebKey // the public half
}

// NewIssuer returns an issuer that goes by a URL, which is also the audience of
// tokens for the API.
func NewIssuer(url string, key *ecdsa.PrivateKey) (*Issuer, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("public key of tokens: %w", err)
	}
	sum := sha256.Sum256(der)
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		return nil, fmt.Errorf("signer of tokens: %w", err)
	}
	public := jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: string(jose.ES256), Use: "sig"}
	return &Issuer{url: url, signer: signer, key: public}, nil
}

// URL returns the issuer's name.
func (i *Issuer) URL() string { return i.url }

// Sign returns a token that says what claims do, in this issuer's name.
func (i *Issuer) Sign(claims Claims) (string, error) {
	claims.Issuer = i.url
	return jwt.Signed(i.signer).Claims(claims).Serialize()
}

// Read returns what a token says, if this issuer has signed it and it is good at
// that time. Whether what it speaks of still exists, and for whom it is, is the
// caller's to ask.
func (i *Issuer) Read(text string, now time.Time) (*Claims, error) {
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, ErrForeign
	}
	var unproven jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&unproven); err != nil || unproven.Issuer != i.url {
		return nil, ErrForeign
	}
	claims := &Claims{}
	if err := parsed.Claims(i.key.Key, claims); err != nil {
		return nil, errors.New("invalid bearer token: its signature is not this issuer's")
	}
	switch err := claims.ValidateWithLeeway(jwt.Expected{Issuer: i.url, Time: now}, leeway); {
	case errors.Is(err, jwt.ErrExpired):
		return nil, errors.New("service account token has expired")
	case errors.Is(err, jwt.ErrNotValidYet):
		return nil, errors.New("service account token is not valid yet")
	case err != nil:
		return nil, fmt.Errorf("service account token claims could not be validated: %w", err)
	case claims.Expiry == nil:
		return nil, errors.New("service account token has no end")
	}
	return claims, nil
}

// Keys returns the JSON Web Key Set (RFC 7517) by which others check tokens.
func (i *Issuer) Keys() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key}})
}

// Discovery returns the OpenID provider's configuration; keysURL is where Keys are.
func (i *Issuer) Discovery(keysURL string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"issuer":                                i.url,
		"jwks_uri":                              keysURL,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
	})
}
