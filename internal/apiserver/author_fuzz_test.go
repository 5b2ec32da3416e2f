package apiserver

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzProduct reads User-Agents as they come from outside: what is kept is a printable
// token of bounded length, and reads as itself.
func FuzzProduct(f *testing.F) {
	for _, agent := range []string{
		"", " ", "kubectl/v1.37.2 (linux/amd64) kubernetes/abcdef", " curl/8", "a\x00b/1", "\xff\xfe", "é/1", strings.Repeat("x", 300),
	} {
		f.Add(agent)
	}
	f.Fuzz(func(t *testing.T, agent string) {
		token := product(agent)
		if len(token) > 128 || !utf8.ValidString(token) || strings.ContainsFunc(token, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) {
			t.Fatalf("%q gives %q", agent, token)
		}
		if again := product(token); again != token {
			t.Fatalf("%q gives %q, and that %q", agent, token, again)
		}
	})
}
