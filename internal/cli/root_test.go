package cli

import (
	"io"
	"strings"
	"testing"
)

// TestUnknownCommand checks that nothing misspelt passes for done.
func TestUnknownCommand(t *testing.T) {
	for args, want := range map[string]string{
		"roll":               `unknown command "roll" for "windlass"`,
		"rollout deploy/web": `unknown command "deploy/web" for "windlass rollout": give one of history, pause,`,
		"image remove app:1": `unknown command "remove" for "windlass image": give one of load, ls,`,
		"token":              "",
	} {
		root := newRoot()
		root.SetArgs(strings.Fields(args))
		root.SetOut(io.Discard)
		switch err := root.Execute(); {
		case want == "" && err != nil:
			t.Errorf("windlass %s: %v", args, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("windlass %s: %v, want %s", args, err, want)
		}
	}
}
