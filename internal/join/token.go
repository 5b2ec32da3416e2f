package join

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// tokenPrefix begins every token and says how the rest is to be read.
const tokenPrefix = "WL1"

// Token is what a machine needs to join a cluster.
type Token struct {
	AuthorityHash string // SHA-256 of the authority's certificate, in hexadecimal
	ID            string // six characters; no secret
	Secret        string // sixteen characters
}

var tokenPattern = regexp.MustCompile(`^` + tokenPrefix + `([0-9a-f]{64})::([a-z0-9]{6})\.([a-z0-9]{16})$`)

// ParseToken reads a token as Token.String writes it. Its errors do not repeat
// the secret.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	match := tokenPattern.FindStringSubmatch(text)
	switch {
	case match != nil:
		return Token{AuthorityHash: match[1], ID: match[2], Secret: match[3]}, nil
	case text == "":
		return Token{}, errors.New("no token: make one on the server's machine with `windlass token create` and give it with --token")
	case !strings.HasPrefix(text, tokenPrefix):
		return Token{}, fmt.Errorf("the token does not begin with %s: give the whole of what `windlass token create` prints", tokenPrefix)
	}
	return Token{}, fmt.Errorf("the token is not of the form %s<64 hexadecimal digits>::<6 characters>.<16 characters>: "+
		"a part is missing or changed; give the whole of what `windlass token create` prints", tokenPrefix)
}

// String writes the token, its secret included.
func (t Token) String() string {
	return fmt.Sprintf("%s%s::%s.%s", tokenPrefix, t.AuthorityHash, t.ID, t.Secret)
}

// NewToken draws a token for the cluster whose authority has the hash.
func NewToken(authorityHash string) (Token, error) {
	id, err := draw(6)
	if err != nil {
		return Token{}, err
	}
	secret, err := draw(16)
	if err != nil {
		return Token{}, err
	}
	return Token{AuthorityHash: authorityHash, ID: id, Secret: secret}, nil
}

// draw returns random characters of those that bootstrap tokens are made of.
func draw(n int) (string, error) {
	const characters = "0123456789abcdefghijklmnopqrstuvwxyz"
	text := make([]byte, n)
	for i := range text {
		at, err := rand.Int(rand.Reader, big.NewInt(int64(len(characters))))
		if err != nil {
			return "", fmt.Errorf("draw a token: %w", err)
		}
		text[i] = characters[at.Int64()]
	}
	return string(text), nil
}
