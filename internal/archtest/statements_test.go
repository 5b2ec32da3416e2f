package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// scripts and packages say where the names in docs/deployments.md lead.
var (
	scripts = map[string]string{
		"scenarios": "internal/rollout/testdata/scenarios/%",
		"e2e":       "test/e2e/testdata/%.txtar",
		"kinds":     "internal/apiserver/validation/testdata/kinds/%",
		"defaults":  "internal/apiserver/defaults/testdata/%",
		"columns":   "internal/apiserver/columns/testdata/%",
	}
	packages = map[string]string{
		"rollout":    "internal/rollout",
		"replicaset": "internal/controller/replicaset",
		"deployment": "internal/controller/deployment",
		"garbage":    "internal/controller/garbage",
		"e2e":        "test/e2e",
	}
	named = regexp.MustCompile("`([^`]+)`")
)

// TestStatements: each statement about Deployments names at least one test, and
// those that it names exist.
func TestStatements(t *testing.T) {
	root := filepath.Join("..", "..")
	content, err := os.ReadFile(filepath.Join(root, "docs", "deployments.md"))
	if err != nil {
		t.Fatal(err)
	}
	statements, inTable := 0, false
	for _, line := range strings.Split(string(content), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		switch {
		case line == "| statement | shown by |":
			inTable = true
			continue
		case !strings.HasPrefix(line, "|"):
			inTable = false
		}
		if !inTable || strings.HasPrefix(line, "| ---") {
			continue
		}
		statements++
		names := named.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(cells) != 2 || len(names) == 0 {
			t.Errorf("no test shows: %s", line)
		}
		for _, name := range names {
			if !testExists(t, root, name[1]) {
				t.Errorf("there is no %s, which is to show: %s", name[1], cells[0])
			}
		}
	}
	if statements < 80 {
		t.Errorf("only %d statements found: the tables have another form", statements)
	}
}

// testExists says whether a name is that of a script or of a Go test.
func testExists(t *testing.T, root, name string) bool {
	t.Helper()
	if kind, script, is := strings.Cut(name, "/"); is {
		_, err := os.Stat(filepath.Join(root, strings.Replace(scripts[kind], "%", script, 1)))
		return scripts[kind] != "" && err == nil
	}
	part, test, is := strings.Cut(name, ".")
	if !is || packages[part] == "" {
		return false
	}
	files, err := filepath.Glob(filepath.Join(root, packages[part], "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "\nfunc "+test+"(t *testing.T) {") {
			return true
		}
	}
	return false
}
