package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/version"
)

// TestScripts runs testdata/*.txtar against the shared server, each in a
// Kubernetes namespace named after the script. Beside testscript's commands:
//
//	await DURATION REGEXP COMMAND...   repeat the command until its output matches
//	expand FILE TO                     copy a file with its $VARIABLES replaced
//	registry VARIABLE LOGIN IMAGE...   start a registry (see serveRegistry)
//
// and its conditions:
//
//	[cgroup2]      control groups v2 alone hold containers here
//	[kernel:6.3]   the kernel is that one or a later one
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setupScript,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"await": await, "registry": serveRegistry, "expand": expand},
		Condition: func(condition string) (bool, error) {
			if wanted, ok := strings.CutPrefix(condition, "kernel:"); ok {
				return kernelIs(wanted)
			}
			if condition == "cgroup2" {
				return unifiedGroups()
			}
			return false, fmt.Errorf("no such condition: %s", condition)
		},
	})
}

// kernelIs tells whether the kernel is the wanted version (6.3, say) or later.
func kernelIs(wanted string) (bool, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return false, err
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(uname.Release[:]), "-")
	have, err := version.ParseGeneric(release)
	if err != nil {
		return false, fmt.Errorf("kernel %s: %w", release, err)
	}
	least, err := version.ParseGeneric(wanted)
	if err != nil {
		return false, err
	}
	return have.AtLeast(least), nil
}

// unifiedGroups tells whether the memory controller belongs to no hierarchy of
// control groups v1.
func unifiedGroups() (bool, error) {
	table, err := os.ReadFile("/proc/cgroups")
	return !regexp.MustCompile(`(?m)^memory\t[1-9]`).Match(table), err
}

func setupScript(env *testscript.Env) error {
	name := strings.ReplaceAll(strings.TrimPrefix(filepath.Base(env.WorkDir), "script-"), "_", "-")
	content, err := os.ReadFile(setup.shared.Kubeconfig())
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(env.WorkDir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, content, 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"create", "namespace", name},
		{"config", "set-context", "--current", "--namespace=" + name},
	} {
		cmd := exec.Command(setup.kubectl, args...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
		if out, err := cmd.CombinedOutput(); err != nil {
			return &scriptError{args, out, err}
		}
	}
	// After what the script itself has to say.
	t := env.T().(interface {
		Cleanup(func())
		Failed() bool
		Logf(string, ...any)
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what is wrong:\n%s", setup.shared.Trouble(context.Background(), name))
		}
	})
	env.Setenv("KUBECONFIG", kubeconfig)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("NS", name)
	env.Setenv("DATA", setup.shared.Dir)
	env.Setenv("HUB", setup.hub)
	env.Setenv("EXAMPLES", filepath.Join(setup.root, "examples"))
	env.Setenv("PATH", filepath.Dir(setup.kubectl)+":"+filepath.Dir(setup.binary)+":"+os.Getenv("PATH"))
	return nil
}

type scriptError struct {
	args   []string
	output []byte
	err    error
}

func (e *scriptError) Error() string {
	return strings.Join(e.args, " ") + ": " + e.err.Error() + ": " + string(e.output)
}

func expand(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) != 2 {
		ts.Fatalf("usage: expand FILE TO")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o600))
}

func await(ts *testscript.TestScript, negated bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: await DURATION REGEXP COMMAND...")
	}
	atMost, err := time.ParseDuration(args[0])
	ts.Check(err)
	atMost *= patience
	pattern, err := regexp.Compile("(?ms)" + args[1])
	ts.Check(err)
	for deadline := time.Now().Add(atMost); ; time.Sleep(20 * time.Millisecond) {
		cmd := exec.Command(args[2], args[3:]...)
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = os.Environ()
		for _, name := range []string{"KUBECONFIG", "PATH", "WORK", "NS", "DATA"} {
			cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
		}
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		_ = cmd.Run() // its output is what is awaited
		if pattern.Match(output.Bytes()) != negated {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %v: %s\nlast output:\n%s", atMost, args[1], output.String())
		}
	}
}
