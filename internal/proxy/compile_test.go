package proxy

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestCompile runs the scripts that say what rules the objects become. The
// commands:
//
//	compile     the objects of the input, as the whole ruleset without the node's part
//	node        the ruleset without Services
//	change      the objects of the input replace all before: the transaction from what compile or change had last
func TestCompile(t *testing.T) {
	datadriven.Walk(t, "testdata/compile", func(t *testing.T, path string) {
		var now content
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			want := Compile(parseState(t, d.Input))
			accepted(t, want.String())
			made := now.changeTo(want)
			now = made.done()
			switch d.Cmd {
			case "compile":
				shown := Ruleset{Parts: []*Part{{Sets: sharedSets}}}
				shown.Parts = append(shown.Parts, want.Parts[1:]...)
				return shown.String()
			case "node":
				return want.String()
			case "change":
				return made.transaction.String()
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

// accepted checks that the text of a ruleset is what nft understands, where
// there is an nft and a namespace to try it in.
func accepted(t *testing.T, script string) {
	t.Helper()
	t.Run("nft", func(t *testing.T) {
		nft, err := exec.LookPath("nft")
		if err != nil {
			t.Skip("needs the nft command")
		}
		newNamespace(t).do(func() {
			check := exec.Command(nft, "-c", "-f", "-")
			check.Stdin = strings.NewReader(script)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%v: %s\n%s", err, bytes.TrimSpace(out), script)
			}
		})
	})
}
