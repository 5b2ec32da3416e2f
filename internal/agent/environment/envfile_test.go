package environment

import (
	"maps"
	"strings"
	"testing"
)

func TestParseFile(t *testing.T) {
	got, err := parseFile("# comment\n\n  A='one'\nB = 'two # not = a comment'  \r\nMULTI='line1\nline2'\n\t# more\nA='again'\nEMPTY=''")
	want := map[string]string{"A": "again", "B": "two # not = a comment", "MULTI": "line1\nline2", "EMPTY": ""}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for text, want := range map[string]string{
		"A='b'\nB=value":    "line 2: the value of B must be in single quotes",
		`A="b"`:             "line 1: the value of A must be in single quotes",
		"A='b''c'":          "line 1: nothing may come after the closing quote of A",
		"A='b'$C":           "line 1: nothing may come after the closing quote of A",
		"M='a\nb'\nA='open": "line 3: the value of A has no closing quote",
		"word":              "line 1: want NAME='value'",
		"export A='b'":      "line 1: want NAME='value'",
		"word\nA='b'":       "line 1: want NAME='value'",
	} {
		if got, err := parseFile(text); err == nil || err.Error() != want {
			t.Errorf("%q is %q, %v; want %s", text, got, err, want)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	for _, seed := range []string{"A='b'\n", "# c\nA = 'x\ny'", "A", "='x'", "A='b''c'"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		variables, err := parseFile(text)
		if err != nil {
			return
		}
		for name, value := range variables {
			if name == "" || strings.ContainsAny(value, "'\x00") {
				t.Errorf("%q has %q=%q", text, name, value)
			}
		}
	})
}
