package join

import (
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How Kubernetes keeps bootstrap tokens:
// https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
const (
	SecretType   = corev1.SecretType("bootstrap.kubernetes.io/token")
	secretPrefix = "bootstrap-token-"

	keyID          = "token-id"
	keySecret      = "token-secret"
	keyExpiration  = "expiration"
	keyDescription = "description"
	keyUsage       = "usage-bootstrap-authentication"
	keyGroups      = "auth-extra-groups"

	bootstrapGroup = "system:bootstrappers:windlass"
)

// SecretName is the name of the Secret of the token with an id.
func SecretName(id string) string { return secretPrefix + id }

// SecretOf returns the Secret that keeps a token until ends, for ever when that
// is zero.
func SecretOf(token Token, description string, ends time.Time) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: SecretName(token.ID)},
		Type:       SecretType,
		Data: map[string][]byte{
			keyID: []byte(token.ID), keySecret: []byte(token.Secret), keyUsage: []byte("true"), keyGroups: []byte(bootstrapGroup),
		},
	}
	if description != "" {
		secret.Data[keyDescription] = []byte(description)
	}
	if !ends.IsZero() {
		secret.Data[keyExpiration] = []byte(ends.UTC().Format(time.RFC3339))
	}
	return secret
}

// Kept is a token as its Secret tells of it.
type Kept struct {
	ID          string
	Description string
	Ends        time.Time // zero: never
}

// Ended says whether the token is good no more.
func (k Kept) Ended(now time.Time) bool { return !k.Ends.IsZero() && !now.Before(k.Ends) }

// ReadSecret reads a token's Secret. It fails when the Secret is none of a token,
// or its expiration cannot be read.
func ReadSecret(secret *corev1.Secret) (Kept, error) {
	id := string(secret.Data[keyID])
	if secret.Type != SecretType || id == "" || secret.Name != SecretName(id) {
		return Kept{}, fmt.Errorf("secret %s is not of a join token", secret.Name)
	}
	kept := Kept{ID: id, Description: string(secret.Data[keyDescription])}
	if text := strings.TrimSpace(string(secret.Data[keyExpiration])); text != "" {
		ends, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return Kept{}, fmt.Errorf("secret %s: expiration %q is not a time as in RFC 3339", secret.Name, text)
		}
		kept.Ends = ends
	}
	return kept, nil
}

// Check says whether who presents a token may join by its Secret, which is nil
// when there is none. Errors say what would mend it.
func Check(token Token, secret *corev1.Secret, now time.Time) error {
	const another = "make another with `windlass token create`"
	if secret == nil {
		return fmt.Errorf("token %s is not known here: it has ended, was revoked, or is of another cluster; %s", token.ID, another)
	}
	kept, err := ReadSecret(secret)
	if err != nil {
		return err
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(token.Secret), secret.Data[keySecret]) != 1:
		return fmt.Errorf("the secret of token %s is wrong: give the whole of what `windlass token create` printed, or %s", token.ID, another)
	case string(secret.Data[keyUsage]) != "true":
		return fmt.Errorf("token %s is not for joining (%s is not \"true\"); %s", token.ID, keyUsage, another)
	case kept.Ended(now):
		return fmt.Errorf("token %s ended at %s; %s", token.ID, kept.Ends.UTC().Format(time.RFC3339), another)
	}
	return nil
}
