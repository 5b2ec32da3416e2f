package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "windlass.dev/windlass/"

// allowed says which of our own packages a part may import beside itself and
// its own subpackages. A part that is not listed may import none.
var allowed = map[string][]string{
	"cmd/windlass":         {"internal/cli"},
	"internal/cli":         {"internal/server", "internal/join", "internal/pki", "internal/image", "internal/foresight", "api/v1alpha1", "internal/rolloutview"},
	"internal/server":      {"*"}, // the composition root
	"internal/agent":       {"internal/condition", "internal/hostport", "api/v1alpha1", "internal/hijack"},
	"internal/oci":         {"internal/agent"},                     // adapters implement
	"internal/image":       {"internal/agent"},                     // what the agent
	"internal/network":     {"internal/agent", "internal/overlay"}, // declares
	"internal/proxy":       {"internal/condition", "api/v1alpha1"},
	"internal/apiserver":   {"internal/condition", "internal/store", "internal/pki", "internal/join", "internal/hijack", "api/v1alpha1"},
	"internal/join":        {"internal/pki"},
	"internal/controller":  {"internal/condition", "internal/rollout", "api/v1alpha1"},
	"internal/scheduler":   {"internal/condition", "internal/hostport", "api/v1alpha1"},
	"internal/rollout":     {"internal/condition", "api/v1alpha1"},
	"internal/rolloutview": {"internal/condition", "api/v1alpha1", "internal/rollout"},                         // of rollout only the view of a StatefulSet
	"internal/foresight":   {"internal/condition", "internal/rollout", "internal/scheduler", "api/v1alpha1"},   // of scheduler only fit
	"internal/sim":         {"internal/server", "internal/agent", "internal/controller", "internal/scheduler"}, // compositions for tests
	"examples/demo":        {"test/harness"},
	"test/e2e":             {"test/harness", "test/loss"},
	"test/benchmark":       {"test/harness"},
	"test/loss":            {"test/harness", "api/v1alpha1"},
}

// forbidden are imports that a part must do without, and why.
var forbidden = []struct{ part, path, why string }{
	{"", "k8s.io/kubernetes", "Windlass is written against the published libraries"},
	{"internal/rollout", "context", "the heart decides; it does not act"},
	{"internal/rollout", "k8s.io/client-go", "the heart decides; it does not act"},
	{"internal/rollout", "sigs.k8s.io/controller-runtime", "the heart decides; it does not act"},
	{"internal/rollout", "log", "a decision carries its Why; nothing is logged"},
	{"internal/rollout", "math/rand", "the same snapshot makes the same plan"},
	{"internal/scheduler/fit", "context", "which node is best is decided, not done"},
	{"internal/scheduler/fit", "k8s.io/client-go", "which node is best is decided, not done"},
	{"internal/scheduler/fit", "sigs.k8s.io/controller-runtime", "which node is best is decided, not done"},
	{"internal/foresight", "context", "what will be follows from facts that others read"},
	{"internal/foresight", "k8s.io/client-go", "what will be follows from facts that others read"},
	{"internal/foresight", "sigs.k8s.io/controller-runtime", "what will be follows from facts that others read"},
	{"internal/rolloutview", "context", "it shows what it is given"},
	{"internal/rolloutview", "k8s.io/client-go", "it shows what it is given"},
	{"internal/apiserver/validation", "k8s.io/client-go", "validation is pure"},
}

// testOnly are packages that any test may import.
var testOnly = []string{"internal/controller/controllertest", "test/harness", "internal/apiserver/apiservertest", "internal/agent/hollow", "internal/proxy"}

func TestImports(t *testing.T) {
	for _, file := range goFiles(t) {
		part := partOf(file.dir)
		for _, path := range file.imports {
			for _, rule := range forbidden {
				if strings.HasPrefix(file.dir, rule.part) && !file.test && (path == rule.path || strings.HasPrefix(path, rule.path+"/")) {
					t.Errorf("%s imports %s: %s", file.name, path, rule.why)
				}
			}
			own, isOwn := strings.CutPrefix(path, module)
			if !isOwn || partOf(own) == part || file.test && slices.Contains(testOnly, own) {
				continue
			}
			if strings.HasSuffix(file.dir, "test") && (own == "internal/apiserver" || slices.Contains(testOnly, own)) {
				continue // what tests stand on is a composition root too
			}
			if list := allowed[part]; !slices.Contains(list, "*") && !slices.Contains(list, partOf(own)) {
				t.Errorf("%s imports %s: parts meet through the API; %s may import %v", file.name, own, part, list)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	commented := map[string]bool{}
	for _, file := range goFiles(t) {
		if !file.test {
			commented[file.dir] = commented[file.dir] || file.comment
		}
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

// partOf names the part that a directory belongs to: its first two elements.
func partOf(dir string) string {
	elements := strings.Split(dir, "/")
	return strings.Join(elements[:min(2, len(elements))], "/")
}

type goFile struct {
	name, dir     string
	test, comment bool
	imports       []string
}

func goFiles(t *testing.T) []goFile {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []goFile
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, path), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		file := goFile{name: path, dir: filepath.Dir(path), test: strings.HasSuffix(path, "_test.go"), comment: parsed.Doc != nil}
		for _, spec := range parsed.Imports {
			value, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			file.imports = append(file.imports, value)
		}
		files = append(files, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no Go files")
	}
	return files
}
