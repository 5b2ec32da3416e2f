package volume

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Tokens issues tokens of a pod's ServiceAccount.
type Tokens interface {
	// Token returns a token (RFC 7519) for an audience, "" for the API's, that is
	// good for some seconds while the pod exists.
	Token(audience string, seconds int64) (string, error)
}

const (
	// tokenLife is how many seconds a token is good for that does not say.
	tokenLife = int64(3600)

	// tokenAge is how old a token gets at most.
	tokenAge = 24 * time.Hour

	// tokenPatience is how long a token stays that could not be renewed in time,
	// before that is tried again.
	tokenPatience = 10 * time.Second
)

// token takes in a token of the pod's ServiceAccount: the one that is in the
// volume until it has lived four fifths of its life.
func (p *projector) token(source *corev1.ServiceAccountTokenProjection, mode int32) error {
	if p.from.Tokens == nil {
		return errNoTokens
	}
	seconds := tokenLife
	if source.ExpirationSeconds != nil {
		seconds = *source.ExpirationSeconds
	}
	text, err := p.currentToken(source, seconds)
	if err != nil {
		return err
	}
	owner := runAsUser(p.pod)
	if owner != nil || fsGroup(p.pod) >= 0 {
		mode = 0o600 // own opens it to the group
	}
	if err := p.add(source.Path, []byte(text), mode); err != nil {
		return err
	}
	if f, ok := p.files[filepath.Clean(source.Path)]; ok {
		f.owner = owner
		p.files[filepath.Clean(source.Path)] = f
	}
	return nil
}

func (p *projector) currentToken(source *corev1.ServiceAccountTokenProjection, seconds int64) (string, error) {
	now := time.Now()
	var present []byte
	if p.dir != "" {
		present, _ = os.ReadFile(filepath.Join(p.dir, source.Path)) // not there: the first time
	}
	life, ok := tokenTimes(string(present))
	if ok && now.Before(life.renewal()) {
		p.due = earlier(p.due, life.renewal())
		return string(present), nil
	}
	text, err := p.from.Tokens.Token(source.Audience, seconds)
	if err != nil && ok && now.Before(life.end) {
		p.due = earlier(p.due, now.Add(tokenPatience))
		return string(present), nil
	}
	if err != nil {
		return "", err
	}
	if life, ok = tokenTimes(text); !ok {
		life = lifetime{now, now.Add(time.Duration(seconds) * time.Second)}
	}
	p.due = earlier(p.due, life.renewal())
	return text, nil
}

// lifetime is from when to when a token is good.
type lifetime struct{ begin, end time.Time }

// renewal is when a token should be replaced.
func (l lifetime) renewal() time.Time {
	return l.begin.Add(min(l.end.Sub(l.begin)*4/5, tokenAge))
}

// tokenTimes reads the times in a token that was signed for us; it checks nothing.
func tokenTimes(text string) (lifetime, bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return lifetime{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return lifetime{}, false
	}
	var claims struct {
		IssuedAt float64 `json:"iat"`
		Expiry   float64 `json:"exp"`
	}
	const latest = 1 << 40 // seconds
	if json.Unmarshal(payload, &claims) != nil || claims.IssuedAt <= 0 || claims.Expiry <= claims.IssuedAt || claims.Expiry > latest {
		return lifetime{}, false
	}
	return lifetime{time.Unix(int64(claims.IssuedAt), 0), time.Unix(int64(claims.Expiry), 0)}, true
}

var errNoTokens = errors.New("service account tokens are not supported on this node")

// noTokens stands for tokens where no file is made.
type noTokens struct{}

// Token implements Tokens.
func (noTokens) Token(string, int64) (string, error) { return "", nil }
