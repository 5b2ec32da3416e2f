package join

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func token(t *testing.T) Token {
	t.Helper()
	token, err := NewToken(strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokenIsReadAsWritten(t *testing.T) {
	made := token(t)
	read, err := ParseToken(" " + made.String() + "\n")
	if err != nil || read != made {
		t.Errorf("%v, %v, want %v", read, err, made)
	}
}

func TestBadTokensAreExplained(t *testing.T) {
	whole := token(t).String()
	for text, want := range map[string]string{
		"":                        "windlass token create",
		"abcdef.0123456789abcdef": "does not begin with WL1",
		whole[:len(whole)-1]:      "is not of the form",
		strings.ToUpper(whole):    "is not of the form",
	} {
		if _, err := ParseToken(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("WL1" + strings.Repeat("0", 64) + "::abcdef.0123456789abcdef")
	f.Add("K10::")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && token.String() != strings.TrimSpace(text) {
			t.Errorf("%q is read as %q", text, token)
		}
	})
}

func TestCheck(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	made := token(t)
	other := made
	other.Secret = strings.Repeat("x", 16)
	for _, test := range []struct {
		name   string
		secret *corev1.Secret
		token  Token
		want   string // in the error; "" is none
	}{
		{"good", SecretOf(made, "", now.Add(time.Hour)), made, ""},
		{"for ever", SecretOf(made, "", time.Time{}), made, ""},
		{"unknown", nil, made, "is not known here"},
		{"at its end", SecretOf(made, "", now), made, "ended at 2026-01-01T12:00:00Z"},
		{"another secret", SecretOf(made, "", time.Time{}), other, "is wrong"},
		{"not for this", changed(SecretOf(made, "", time.Time{}), keyUsage, "false"), made, "is not for joining"},
		{"an end that is none", changed(SecretOf(made, "", time.Time{}), keyExpiration, "tomorrow"), made, `expiration "tomorrow"`},
		{"another name", changed(SecretOf(made, "", time.Time{}), keyID, "fedcba"), made, "is not of a join token"},
	} {
		err := Check(test.token, test.secret, now)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), made.Secret) {
			t.Errorf("%s: the error tells the secret: %v", test.name, err)
		}
	}
}

func changed(secret *corev1.Secret, key, value string) *corev1.Secret {
	secret.Data[key] = []byte(value)
	return secret
}

func FuzzReadSecret(f *testing.F) {
	f.Add("bootstrap-token-abcdef", "abcdef", "2026-01-01T12:00:00Z")
	f.Fuzz(func(t *testing.T, name, id, ends string) {
		secret := &corev1.Secret{Type: SecretType, Data: map[string][]byte{keyID: []byte(id), keyExpiration: []byte(ends)}}
		secret.Name = name
		if kept, err := ReadSecret(secret); err == nil && kept.ID != id {
			t.Errorf("%q is read as %q", id, kept.ID)
		}
	})
}
