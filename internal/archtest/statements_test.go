package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents have tables of statements, at least so many of them, each with what shows it.
var documents = map[string]int{
	"deployments.md":  80,
	"pods.md":         75,
	"statefulsets.md": 40,
	"storage.md":      45,
}

// scripts and packages say where the names in those tables lead.
var (
	scripts = map[string]string{
		"scenarios": "internal/rollout/testdata/scenarios/%",
		"step":      "internal/agent/testdata/step/%",
		"e2e":       "test/e2e/testdata/%.txtar",
		"kinds":     "internal/apiserver/validation/testdata/kinds/%",
		"pods":      "internal/apiserver/validation/testdata/pods/%",
		"defaults":  "internal/apiserver/defaults/testdata/%",
		"columns":   "internal/apiserver/columns/testdata/%",
		"sim":       "internal/sim/testdata/%",
		"foresight": "internal/foresight/testdata/foresight/%",
	}
	packages = map[string]string{
		"agent":       "internal/agent",
		"environment": "internal/agent/environment",
		"volume":      "internal/agent/volume",
		"probe":       "internal/agent/probe",
		"podlog":      "internal/agent/podlog",
		"oci":         "internal/oci",
		"store":       "internal/store",
		"eviction":    "internal/agent/eviction",
		"node":        "internal/controller/node",
		"cli":         "internal/cli",
		"apiserver":   "internal/apiserver",
		"image":       "internal/image",
		"network":     "internal/network",
		"proxy":       "internal/proxy",
		"fit":         "internal/scheduler/fit",
		"token":       "internal/apiserver/token",
		"rbac":        "internal/apiserver/rbac",
		"pki":         "internal/pki",
		"validation":  "internal/apiserver/validation",
		"rollout":     "internal/rollout",
		"replicaset":  "internal/controller/replicaset",
		"deployment":  "internal/controller/deployment",
		"statefulset": "internal/controller/statefulset",
		"garbage":     "internal/controller/garbage",
		"scheduler":   "internal/scheduler",

		"rolloutrecord":    "internal/controller/rolloutrecord",
		"foresight":        "internal/foresight",
		"persistentvolume": "internal/controller/persistentvolume",
		"localvolume":      "internal/agent/localvolume",
		"e2e":              "test/e2e",
	}
	named = regexp.MustCompile("`([^`]+)`")
)

// TestStatements: each statement of the documents names at least one test, and
// those that it names exist.
func TestStatements(t *testing.T) {
	root := filepath.Join("..", "..")
	for document, least := range documents {
		content, err := os.ReadFile(filepath.Join(root, "docs", document))
		if err != nil {
			t.Fatal(err)
		}
		if statements := checkStatements(t, root, string(content)); statements < least {
			t.Errorf("%s: only %d statements found: the tables have another form", document, statements)
		}
	}
}

// checkStatements looks at the tables of one document and returns how many statements they make.
func checkStatements(t *testing.T, root, content string) int {
	t.Helper()
	statements, inTable := 0, false
	for line := range strings.SplitSeq(content, "\n") {
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
	return statements
}

// testExists says whether a name is that of a script, or of a Go test or a part
// of one that has a function of its own.
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
		if strings.Contains(string(content), "\nfunc "+test+"(t *testing.T") {
			return true
		}
	}
	return false
}
